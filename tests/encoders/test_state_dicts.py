"""State dicts: what is read, how differences are told, and what a digest goes by."""

import pytest
import torch

from possam.encoders.state_dicts import differences, digest_tensors, read_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2.0), "c": torch.zeros(2, dtype=torch.bfloat16)}


def test_a_digest_goes_by_names_shapes_types_and_values():
    digest = digest_tensors(STATE, "kind")
    assert len(digest) == 64
    assert digest == digest_tensors(dict(reversed(STATE.items())), "kind")
    strided = {**STATE, "a.weight": STATE["a.weight"].T.contiguous().T}
    assert digest == digest_tensors(strided, "kind")
    others = [
        {**STATE, "b": torch.tensor(2.5)},
        {**STATE, "b": torch.tensor(2)},
        {**STATE, "b": torch.tensor([2.0])},
        {**STATE, "a.weight": STATE["a.weight"].reshape(3, 2)},
        {("x" if key == "b" else key): value for key, value in STATE.items()},
    ]
    assert len({digest, digest_tensors(STATE, "other"), *(digest_tensors(other, "kind") for other in others)}) == 7


def test_differences_name_a_few_of_each():
    assert differences(STATE, STATE) == ""
    many = {f"layer{i}": torch.zeros(1) for i in range(6)}
    found = {**many, "a.weight": torch.zeros(3, 2), "b": STATE["b"]}
    assert differences(STATE, found) == (
        "1 missing: c; 6 unexpected: layer0, layer1, layer2, layer3, …; 1 of another shape: a.weight (3, 2) instead of "
        "(2, 3)"
    )


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "iteration": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapped_and_distributed_state_dicts_are_unwrapped(tmp_path, wrap, prefix):
    torch.save(wrap({prefix + key: value for key, value in STATE.items()}), tmp_path / "state.pt")
    state = read_state_dict(tmp_path / "state.pt", kind="SAM")
    assert all(torch.equal(state[key], value) for key, value in STATE.items()) and len(state) == len(STATE)


def test_code_in_a_file_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"a": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ValueError, match="cannot read SAM weights from .*trap.pt"):
        read_state_dict(tmp_path / "trap.pt", kind="SAM")
    assert not (tmp_path / "sprung").exists()
