"""What is wrong with a dataset's files, precisely, and what mends it."""

from possam.data.doctor.examination import examine, is_there
from possam.data.doctor.problem import ABSENT, Problem

__all__ = ["ABSENT", "Problem", "examine", "is_there"]
