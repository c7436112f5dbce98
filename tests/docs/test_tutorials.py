"""Every block of the tutorials runs, in order, on a small miniature world, and prints what the page says it prints.

`POSSAM_WRITE_DOCS=1 pytest tests/docs/test_tutorials.py` writes what was printed into the pages.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs" / "tutorials").glob("*.md") if path.stem != "README")
FENCE = re.compile(r"^(?P<note><!-- not run: [^\n]+ -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
FILE = re.compile(r"# (?P<name>[\w/.-]+\.(py|yaml|json))\n")

@dataclass
class Block:
    """A fenced block: what it is in, its text, the output shown below it, and the places of both in the page."""

    language: str
    code: str
    skipped: bool
    shown: str | None = None
    place: tuple[int, int] | None = None


def blocks_of(page):
    blocks = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        if match["language"] == "text":
            blocks[-1].shown, blocks[-1].place = match["code"].strip(), match.span("code")
        else:
            blocks.append(Block(match["language"], match["code"], bool(match["note"])))
    return blocks


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    from possam.data.miniature.export import export_split

    root = tmp_path_factory.mktemp("world")
    for name, scenes in (("mini_a_train", 4), ("mini_b_selection", 2), ("mini_b_report", 2)):
        export_split(name, root=root, scenes=scenes)
    return root


@pytest.fixture(scope="module")
def runner(world, tmp_path_factory):
    """The process whose forks run the pages; its `torchrun` is this interpreter's."""
    bin = tmp_path_factory.mktemp("bin")
    (bin / "torchrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n')
    (bin / "torchrun").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "DETECTRON2_DATASETS": str(world),
        "XDG_CACHE_HOME": str(bin / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(Path(__file__).with_name("page_runner.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def workplace(tmp_path, world):
    """A folder that looks like the repository's root, with the miniature world in `datasets`."""
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "datasets").mkdir()
    for entry in (*(path for path in (ROOT / "datasets").iterdir() if path.name != "mini"), world / "mini"):
        (tmp_path / "datasets" / entry.name).symlink_to(entry)
    return tmp_path


def run_page(runner, blocks, folder):
    """Run the blocks; the output of each."""
    job = {"folder": str(folder), "blocks": [(block.language, block.code) for block in blocks]}
    runner.stdin.write(json.dumps(job) + "\n")
    runner.stdin.flush()
    answer = json.loads(runner.stdout.readline())
    *outputs, last = answer["outputs"]
    if answer["error"]:
        pytest.fail(f"{blocks[len(outputs)].code}\n{last[-2000:]}\n{answer['error'][-3000:]}")
    assert len(outputs) == len(blocks)
    return outputs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, runner, workplace):
    blocks = [block for block in blocks_of(page) if not block.skipped]
    assert blocks and {block.language for block in blocks} <= {"python", "sh", "yaml", "json"}
    runnable = []
    for block in blocks:
        if match := FILE.match(block.code):
            file = workplace / match["name"]
            file.parent.mkdir(exist_ok=True)
            # JSON has no comments.
            file.write_text(block.code[match.end() :] if file.suffix == ".json" else block.code)
        else:
            assert block.language in ("python", "sh"), f"{page.name}: what is this block?\n{block.code}"
            runnable.append(block)
    outputs = run_page(runner, runnable, workplace)
    if os.environ.get("POSSAM_WRITE_DOCS"):
        write_outputs(page, runnable, outputs)
    for block, output in zip(runnable, outputs, strict=True):
        if block.shown is not None:
            assert output.strip() == block.shown
        elif block.language == "python":
            assert not output or "run.score" in block.code, f"{page.name} does not show what is printed: {output}"


def write_outputs(page, blocks, outputs):
    text = page.read_text(encoding="utf-8")
    for block, output in reversed(list(zip(blocks, outputs, strict=True))):
        if block.place:
            text = text[: block.place[0]] + output.strip() + "\n" + text[block.place[1] :]
            block.shown = output.strip()
    page.write_text(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_that_are_not_run_name_files_and_keys_that_exist(page):
    from possam.engine.config import load_config

    for block in blocks_of(page):
        if not block.skipped:
            continue
        for command in block.code.replace("\\\n", " ").splitlines():
            words = shlex.split(command, comments=True)
            for word in words:
                if re.fullmatch(r"(configs|tools)/\S+", word):
                    assert (ROOT / word).is_file(), f"{page.name}: {word} does not exist"
            keys = [word for word in words if re.fullmatch(r"[A-Z_]+(\.[A-Z_]+)*", word)]
            if keys:
                settings = [part for key in keys for part in (key, words[words.index(key) + 1])]
                files = [ROOT / file for option, file in pairwise(words) if option == "--config-file"]
                load_config(files, [*settings, "MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False"])


LINKING = [*PAGES, ROOT / "docs" / "tutorials" / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


def test_what_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:possam|tests|configs|tools)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
