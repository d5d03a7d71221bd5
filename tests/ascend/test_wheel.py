"""The product against the real torch_npu 2.13.0, without CANN and without a chip: names, options, variables, operators.

The wheel is installed into a folder of its own and imported in child processes alone, under libraries that only satisfy
the linker, or (for the record of operators) with host memory for a device. Nothing here is evidence about hardware.
"""

from __future__ import annotations

import ast
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from recexp.devices.ascend import environment, options
from recexp.errors import DeviceError

from .wheel import needed, recording
from .wheel.cache import ROOT, folder
from .wheel.child import ask
from .wheel.linked import libraries_of
from .wheel.names import in_product, in_text
from .wheel.operators import Dtypes, Record, Verdict, base, judge
from .wheel.settings import everything_said

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1200)]
SOURCE = ROOT / "src" / "recexp"


@pytest.fixture(scope="session")
def site() -> Path:
    return needed.wheel()


@pytest.fixture(scope="session")
def variables() -> dict[str, str]:
    return needed.link_only_variables()


@pytest.fixture(scope="session")
def wheel(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Version, devices, and how the dispatcher of the real torch_npu would run each operator."""
    return ask("kernels", None, variables, cwd=tmp_path_factory.mktemp("wheel"))


def write_report(name: str, content: Any) -> None:
    """A table for the documentation, under reports/ of the cache."""
    reports = folder() / "reports"
    reports.mkdir(exist_ok=True)
    (reports / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def test_the_real_one_is_imported_and_finds_no_device(wheel: dict[str, Any]) -> None:
    assert wheel["version"] == "2.13.0"
    assert wheel["devices"] == 0
    ways = list(wheel["ways"].values())
    assert ways.count("kernel") > 1000
    assert ways.count("none") > 100


# ---- names ----


def judged(uses: list, variables: dict[str, str], tmp_path: Path) -> list[dict[str, Any]]:
    return ask("bindings", [use.plain() for use in uses], variables, cwd=tmp_path)


def _unsigned(found: list[dict[str, Any]]) -> list[str]:
    """Calls of C functions, whose names alone can be looked at."""
    return sorted({use["name"] for use in found if use["kind"] == "call" and use["verdict"] == "there"})


def wrong(use: dict[str, Any]) -> bool:
    return bool(use["obstacle"]) or use["verdict"] not in ("bound", "there")


def test_every_use_of_torch_npu_in_the_product_fits(variables: dict[str, str], tmp_path: Path) -> None:
    found = judged(in_product(SOURCE), variables, tmp_path)
    write_report("names", {"uses": found, "without a signature": _unsigned(found)})
    assert [use for use in found if wrong(use)] == []
    assert sum(use["verdict"] == "bound" for use in found) >= 20


MISFITS = [
    "npu().mem_info()",
    "npu().set_option({}, {})",
    "npu().set_aoe(path='x')",
    "npu().matmul.alow_hf32 = True",
    "npu().matmul.alow_hf32",
    "torch_npu().profiler.schedule(wait=1, active=1, skip=1)",
    "npu().set_option(*arguments)",
    "npu().set_aoe(**keywords)",
    "kept = npu()",
    "torch.npu.synchronize()",
    "from torch_npu.npu import synchronize",
]


def test_a_use_that_does_not_fit_is_found(variables: dict[str, str], tmp_path: Path) -> None:
    uses = [use for i, line in enumerate(MISFITS) for use in in_text(f"npu().empty_cache()\n{line}\n", str(i))]
    found = judged(uses, variables, tmp_path)
    assert [use["place"] for use in found if wrong(use)] == [f"{i}:2" for i in range(len(MISFITS))]
    assert sum(not wrong(use) for use in found) == len(MISFITS)


# ---- options ----


def test_torch_npu_accepts_whatever_the_options_make_the_product_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], tmp_path: Path
) -> None:
    said = everything_said(monkeypatch, tmp_path)
    answers = ask("say", said, variables, cwd=tmp_path)
    write_report("options", said)
    assert [(one, answer) for one, answer in zip(said, answers, strict=True) if answer] == []
    keys = {key for one in said if one["name"] == "set_option" for key in one["arguments"][0]}
    assert keys >= {*options.ACL_OPTIONS, "ACL_PRECISION_MODE", "ACL_OP_SELECT_IMPL_MODE"}


def test_acceptance_means_something(variables: dict[str, str], tmp_path: Path) -> None:
    closed = {key: "nonsense" for key, legal in options.ACL_OPTIONS.items() if legal is not None}
    bad = [{"NO_SUCH_OPTION": "1"}, {"ACL_PRECISION_MODE": "force_fp16"}, {"ACL_AICORE_NUM": "33"}]
    bad += [{key: value} for key, value in closed.items()]
    said = [{"name": "set_option", "arguments": [one], "keywords": {}} for one in bad]
    said.append({"name": "matmul.allow_hf32", "value": "yes"})
    answers = ask("say", said, variables, cwd=tmp_path)
    taken = [
        one for one, answer in zip(said, answers, strict=True) if not re.match("(Runtime|Value|Type)Error", answer)
    ]
    assert taken == []
    for key, value in [*closed.items(), ("NO_SUCH_OPTION", "1")]:
        with pytest.raises(DeviceError, match=key):
            options.check_acl({key: value})


# ---- variables ----

#: Variables that the wheel itself does not read, and who does.
CANNS_OWN: dict[str, str] = {}


def reads(content: bytes, name: str) -> bool:
    return re.search(rb"(?<![A-Z0-9_])" + name.encode() + rb"(?![A-Z0-9_])", content) is not None


def test_the_wheel_reads_every_variable_that_the_product_exports(site: Path) -> None:
    files = [*libraries_of(site), *(site / "torch_npu").rglob("*.py")]
    content = b"\0".join(path.read_bytes() for path in files)
    assert not reads(content, "NO_SUCH_VARIABLE")
    assert not reads(content, "TASK_QUEUE_ENABL")
    unread = {name for name in environment.VARIABLES if not reads(content, name)}
    assert unread == set(CANNS_OWN)


# ---- operators ----


PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm")
HALF = {"mixed": "float16", "fp16": "float16", "bf16": "bfloat16"}


@pytest.fixture(scope="module")
def verdicts(wheel: dict[str, Any]) -> dict[str, dict[str, Verdict]]:
    """For each model, for each of its cells: the operators that its command brought to the real torch_npu."""
    device, ways = needed.on_host_memory(), json.dumps(wheel)
    cells = [(model, words) for model in recording.models() for words in recording.cells(model)]

    def record(cell: tuple[str, list[str]]) -> Record:
        return recording.record(cell[1], ways, device.variables(), "torch_npu on host memory")

    found: dict[str, dict[str, Verdict]] = {}
    # Most of a command's time is that of its imports, on one core.
    with ThreadPoolExecutor(2) as pool:
        for (model, words), made in zip(cells, pool.map(record, cells), strict=True):
            found.setdefault(model, {})[" ".join(words)] = judge(made, wheel["ways"], Dtypes())
    return found


def names_of(verdict: Verdict) -> set[str]:
    """Operators without their library and overload."""
    return {base(row["operator"]) for row in verdict.rows}


@pytest.mark.parametrize("model", recording.models())
def test_every_operator_of_a_model_has_a_kernel_and_documented_types(
    model: str, verdicts: dict[str, dict[str, Verdict]]
) -> None:
    cells = verdicts[model]
    write_report(
        f"operators-{model}",
        {cell: {"counts": verdict.counted(), "operators": verdict.rows} for cell, verdict in cells.items()},
    )
    problems = {cell: [*verdict.missing, *verdict.undocumented] for cell, verdict in cells.items()}
    assert {cell: found for cell, found in problems.items() if found} == {}


def test_forward_backward_update_and_scaling_are_in_the_record(verdicts: dict[str, dict[str, Verdict]]) -> None:
    for cells in verdicts.values():
        for cell, verdict in cells.items():
            names, precision = names_of(verdict), cell.split()[1]
            assert any(name.endswith("_backward") for name in names), cell
            of_lists = any(name.startswith(("_foreach_", "_fused_")) for name in names)
            assert of_lists or names & {"index_copy_", "addcmul_"}, cell
            assert ("_amp_update_scale_" in names) == (precision == "precision=mixed"), cell
            half = HALF.get(precision.partition("=")[2])
            products = [row["dtypes"]["self"] for row in verdict.rows if row["operator"] in PRODUCTS]
            assert any((half or "float32") in types for types in products), cell


#: Operators that one of a model's records has to have: what its variants are recorded for.
ROADS = {
    "gru4rec": {
        *("sigmoid", "tanh", "relu", "elu", "leaky_relu", "softplus", "_log_softmax", "_softmax", "scatter"),
        *("embedding_dense_backward", "index_select", "index_copy", "index_copy_"),
        *("rsqrt_", "addcmul_", "addcdiv_", "lerp_", "sqrt", "_foreach_lerp_"),
        *("linalg_vector_norm", "_foreach_norm", "_foreach_clamp_min_", "searchsorted"),
    },
    "attrec": {"bmm", "_softmax", "softplus", "relu", "embedding_dense_backward", "_foreach_lerp_"},
    "dlrm": {
        *("bmm", "relu", "log_sigmoid_backward", "sigmoid_backward", "log1p", "masked_fill_", "remainder", "where"),
        *("embedding_dense_backward", "index_select", "index_copy_", "addcdiv_", "sqrt"),
    },
    "deepfm": {
        *("relu", "log_sigmoid_backward", "native_batch_norm_backward", "native_dropout", "embedding_dense_backward"),
        *("_foreach_lerp_", "index_select", "index_copy_", "lerp_", "addcdiv_"),
    },
    "fm": {"log_sigmoid_backward", "embedding_dense_backward", "index_copy_", "addcdiv_", "sum", "where"},
    "lr": {"log_sigmoid_backward", "embedding_dense_backward", "_foreach_lerp_"},
    "ngnn": {
        *("bmm", "addmm", "mm", "split_with_sizes", "leaky_relu_backward", "softplus_backward", "tanh_backward"),
        *("sigmoid_backward", "embedding_dense_backward", "index_add", "index", "linalg_vector_norm", "lerp_"),
        *("index_select", "index_copy_", "pow", "rsub", "sqrt_", "addcmul_", "addcdiv_"),
    },
}
#: None of them may have these: fused cells and tables that Ascend has not, or not in every type.
CLOSED = {"gru", "gru_cell", "_thnn_fused_gru_cell", "embedding_bag", "_embedding_bag", "_sparse_coo_tensor_unsafe"}
CLOSED |= {"index_add", "index_add_"}
#: Words of an item are added up, in every precision in the type of the tables.
OPEN = {"ngnn": {"index_add"}}


@pytest.mark.parametrize("model", ROADS)
def test_the_records_of_a_model_are_those_of_its_roads(model: str, verdicts: dict[str, dict[str, Verdict]]) -> None:
    names = set().union(*(names_of(verdict) for verdict in verdicts[model].values()))
    assert names >= ROADS[model]
    assert names & CLOSED == OPEN.get(model, set())


def types_of(verdict: Verdict, name: str) -> dict[str, list[str]]:
    """Types of an operator's operands."""
    (row,) = (row for row in verdict.rows if row["operator"] == name)
    return row["dtypes"]


@pytest.mark.parametrize("precision", recording.PRECISIONS)
def test_sums_and_counters_of_rows_keep_their_types(precision: str, verdicts: dict[str, dict[str, Verdict]]) -> None:
    """Half a width has no sums by row on an NPU, and no update numbers above 256."""
    verdict = next(verdict for cell, verdict in verdicts["ngnn"].items() if cell.split()[1] == f"precision={precision}")
    assert types_of(verdict, "aten::index_add") == {"index": ["int64"], "self": ["float32"], "source": ["float32"]}
    assert types_of(verdict, "aten::index_copy_")["self"] == ["float32", "int32"]
    assert types_of(verdict, "aten::pow.Scalar") == {"exponent": ["float32"]}


CELLS = {"GRU", "GRUCell", "gru", "gru_cell", "LSTM", "LSTMCell", "lstm_cell", "EmbeddingBag", "embedding_bag"}
CELLS |= {"sparse_coo_tensor", "to_sparse", "SparseAdam"}


def cells_in(text: str) -> set[str]:
    """Names of CELLS that a source takes from a module, and ``sparse=``."""
    nodes = list(ast.walk(ast.parse(text)))
    taken = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    taken |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return taken & CELLS | {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg == "sparse"}


def test_no_model_is_written_with_cells_that_torch_takes_apart() -> None:
    """torch composes a GRU cell of documented operators above the recorder: no record would show the cell."""
    assert cells_in("from torch.nn import GRU\nnn.GRUCell(2, 3)\ntorch.gru_cell(x)") == {"GRU", "GRUCell", "gru_cell"}
    assert cells_in("F.embedding(x, w, sparse=True)\ntorch.optim.SparseAdam(x)") == {"sparse", "SparseAdam"}
    files = sorted([*(SOURCE / "models").glob("*.py"), *(SOURCE / "training").glob("*.py")])
    assert len(files) >= 30
    assert {file.name: found for file in files if (found := cells_in(file.read_text("utf-8")))} == {}


def test_no_exception_of_the_tables_is_stale(verdicts: dict[str, dict[str, Verdict]]) -> None:
    needed_ones = {one for cells in verdicts.values() for verdict in cells.values() for one in verdict.excused}
    assert needed_ones == Dtypes().exceptions


#: What the framework composes isfinite and gather's gradient of, for which torch_npu has kernels.
OF_THE_STAND_IN = {"aten::abs", "aten::eq.Tensor", "aten::ne.Scalar", "aten::scatter_add"}
#: torch_npu differentiates the cross-entropy of log-odds by a formula of its own. Over host memory the framework's
#: composition stands in its place; the device of the everyday tests has torch's usual operator. One or the other.
OF_THE_CROSS_ENTROPY = {f"aten::log_sigmoid_{way}" for way in ("forward", "backward")} | {
    f"aten::{name}" for name in ("mul_.Tensor", "sub_.Tensor", "neg", "clone", "fill_.Scalar", "empty_like")
}
USUAL_CROSS_ENTROPY = {"aten::binary_cross_entropy_with_logits", "aten::sigmoid", "aten::sub.Tensor"}


#: Whose operators are among those of other models.
BASELINES = ("fm", "lr")


@pytest.mark.parametrize(
    "model", [pytest.param(word, marks=[pytest.mark.slow] * (word in BASELINES)) for word in recording.models()]
)
def test_the_device_of_the_everyday_tests_is_asked_for_the_same_operators(wheel: dict[str, Any], model: str) -> None:
    """tests/ascend/host_device stands for torch_npu in most tests: what reaches it is what reaches torch_npu."""
    real, ways = needed.on_host_memory(), json.dumps(wheel)
    stand_in = ROOT / "tests" / "ascend" / "host_device"
    words = next(cell for cell in recording.cells(model) if "precision=mixed" in cell)
    mine = recording.record(words, ways, real.variables(), "torch_npu on host memory")
    variables = needed.environment(path=[stand_in])
    theirs = recording.record(words, ways, variables, "the stand-in of the everyday tests")
    # torch_npu has a cast of its own for what is aten::_to_copy elsewhere.
    clicks = "aten::binary_cross_entropy_with_logits" in theirs
    excused = OF_THE_CROSS_ENTROPY if clicks else set()
    assert {name for name in {*mine} - {*theirs} if not name.startswith("npu::")} <= excused
    assert {*theirs} - {*mine} <= OF_THE_STAND_IN | (USUAL_CROSS_ENTROPY if clicks else set())


def test_what_has_no_kernel_or_other_types_is_reported(wheel: dict[str, Any]) -> None:
    tensor = [[["self", "float32"]]]
    record = {
        "aten::relu": {"operands": tensor, "inner": []},
        "aten::_embedding_bag_dense_backward": {"operands": tensor, "inner": []},
        "aten::embedding_bag": {"operands": tensor, "inner": ["aten::_embedding_bag"]},
        "aten::_embedding_bag": {"operands": tensor, "inner": []},
        "aten::t": {"operands": tensor, "inner": ["aten::transpose.int"]},
        "made_up::operator": {"operands": tensor, "inner": []},
        "aten::mul.Tensor": {"operands": [[["self", "float32"], ["other", "float64"]]], "inner": []},
        "aten::index_add": {"operands": [[["self", "bfloat16"], ["index", "int64"]]], "inner": []},
        "aten::unfold": {"operands": [[["self", "complex64"]]], "inner": []},
        "aten::_thnn_fused_gru_cell": {"operands": [[["input_gates", "bfloat16"]]], "inner": []},
        "aten::index_copy_": {"operands": [[["self", "bfloat16"]]], "inner": []},
        "aten::gather": {"operands": [[["self", "bfloat16"]]], "inner": []},
    }
    verdict = judge(record, wheel["ways"], Dtypes())
    assert [line.partition(": ")[0] for line in verdict.missing] == [
        "aten::_embedding_bag_dense_backward",
        "aten::embedding_bag",
        "aten::_embedding_bag",
        "aten::t",
        "made_up::operator",
    ]
    assert verdict.undocumented == [
        "aten::mul.Tensor: other is float64",
        "aten::index_add: self is bfloat16",
        "aten::unfold: self is complex64",
        "aten::_thnn_fused_gru_cell: input_gates is bfloat16",
        "aten::index_copy_: self is bfloat16",
        "aten::gather: self is bfloat16",
    ]
    assert verdict.counted() == {"kernel": 7, "composite": 0, "missing": 5}


def test_what_the_models_avoid_really_is_not_there(wheel: dict[str, Any]) -> None:
    """Why the models are written as they are, read off the wheel's dispatcher."""
    ways = wheel["ways"]
    absent = [
        "aten::_embedding_bag_backward",  # embedding_bag has a forward kernel, but cannot be trained
        "aten::_embedding_bag_dense_backward",
        "aten::_fused_adagrad_",  # Adagrad runs as a list of _foreach_ operators
        "aten::_thnn_fused_gru_cell_backward",  # only through a formula of torch_npu's own
        "aten::segment_reduce",
        "aten::threshold_backward.grad_input",  # of the attention written out for a processor's caches
    ]
    assert {name: ways[name] for name in absent} == dict.fromkeys(absent, "none")
    present = [
        "aten::_foreach_addcdiv_.ScalarList",
        "aten::_fused_adam_",
        "aten::_fused_sgd_",
        "aten::binary_cross_entropy_with_logits",
        "aten::embedding",
        "aten::embedding_dense_backward",
        "aten::index_add.out",
        "aten::index_copy_",
        "aten::index_select",
        "aten::index_fill_.int_Scalar",  # this and the next: rows that any of several processes looked up
        "aten::nonzero",
        "aten::scatter_add_",
        "aten::_amp_foreach_non_finite_check_and_unscale_",
    ]
    assert {name: ways[name] for name in present} == dict.fromkeys(present, "kernel")
    assert {"aten::matmul", "aten::gru.input", "aten::_thnn_fused_gru_cell"} <= set(wheel["formulas"])
