"""tools/report.py, as a person calls it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "report.py"


def test_it_writes_the_report(evaluation, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("report_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["report.py", "--evaluation", str(evaluation), "--dataset", "street"])
    script.main()
    assert capsys.readouterr().out.strip().endswith(str(evaluation / "report.html"))
    assert (evaluation / "report.html").stat().st_size > 10_000


def test_what_is_wrong_is_said_in_a_sentence(tmp_path):
    command = [sys.executable, str(SCRIPT), "--evaluation", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[1], check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {tmp_path} has no results.json")
    assert "Traceback" not in result.stderr
