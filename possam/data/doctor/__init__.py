"""Examination of a dataset's files: problems, with the files they are in and their fixes."""

from possam.data.doctor.examination import examine, is_there
from possam.data.doctor.problem import ABSENT, Problem
from possam.data.doctor.records import examine_records

__all__ = ["ABSENT", "Problem", "examine", "examine_records", "is_there"]
