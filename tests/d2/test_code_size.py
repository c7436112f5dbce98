"""The runtime stays small: it is a subset, not a second Detectron2."""

import ast
import io
import tokenize
from pathlib import Path

import possam.d2._runtime as runtime

ROOT = Path(runtime.__file__).parent
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_counting_leaves_out_blanks_comments_and_docstrings():
    source = '"""Doc\nof two lines."""\n\n# comment\nx = [\n    1,\n]\n\n\ndef f():\n    "Doc."\n    return x  # why\n'
    assert code_lines(source) == 5


def test_the_subset_has_fewer_than_1500_lines_of_code():
    assert sum(code_lines(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")) < 1500


def test_no_file_is_longer_than_400_lines_of_code_and_no_function_than_60():
    for path in ROOT.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert code_lines(source) <= 400, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert code_lines(ast.unparse(node)) <= 60, (path, node.name)
