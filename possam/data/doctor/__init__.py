"""What is wrong with a dataset's files, precisely, and what fixes it."""

from possam.data.doctor.examination import examine, is_there
from possam.data.doctor.problem import ABSENT, Problem
from possam.data.doctor.records import examine_records

__all__ = ["ABSENT", "Problem", "examine", "examine_records", "is_there"]
