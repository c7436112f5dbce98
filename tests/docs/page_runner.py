"""Runs the blocks of documentation pages, for `test_tutorials.py`.

Reads jobs from stdin, a line of JSON each: {"folder", "blocks": [[language, code], ...]}; answers with a line of JSON:
{"outputs": what each block printed, "error": ""}. Every page and every command is a fork of this process, which has
imported what they all need: importing PyTorch takes longer than most of them.
"""

import contextlib
import json
import os
import runpy
import shlex
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path

from possam.cli import main as possam_main

for heavy in ("engine.verify", "predict.batch", "predict.predictor", "report.visualizations"):
    import_module(f"possam.{heavy}")
END = "@@ end of a block\n"


def in_fork(function):
    """Call `function` in a process of its own; its exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        with contextlib.suppress(BrokenPipeError):
            function()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_shell(code):
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "possam":
            result = in_fork(lambda words=words: sys.exit(possam_main(words[1:])))
        elif words[0] == "python":
            result = in_fork(lambda words=words: run_script(words[1:]))
        else:
            sys.stdout.flush()
            result = subprocess.run(["bash", "-euc", line]).returncode
        if result:
            raise SystemExit(f"{line}\nended with {result}")


def run_script(arguments):
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


def run_page(folder, blocks):
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    for stream, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    space = {"__name__": "tutorial"}
    for number, (language, code) in enumerate(blocks):
        if language == "python":
            exec(compile(code, f"block {number}", "exec"), space)
        else:
            run_shell(code)
        print(END, end="", flush=True)


def main():
    for line in sys.stdin:
        job = json.loads(line)
        folder = Path(job["folder"])
        code = in_fork(lambda job=job, folder=folder: run_page(folder, job["blocks"]))
        outputs = (folder / "stdout.txt").read_text().split(END)
        error = (folder / "stderr.txt").read_text() if code else ""
        print(json.dumps({"outputs": outputs, "error": error}), flush=True)


if __name__ == "__main__":
    main()
