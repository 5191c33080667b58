"""The law checker: it finds every planted mistake and no other, and lets pass what is shipped."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import partitions
import strategies
from bench.check import candidates, partition_laws, report, strategy_laws
from bench.check.__main__ import KINDS, main
from bench.check.candidates import EXAMPLES, REGISTRIES, Candidate, find
from bench.check.law import Broken, NotClaimed, Verdict, claim, judge, summary
from bench.check.partition_laws import PARTITION_LAWS
from bench.check.random_state import drawn_from, seeded, states
from bench.check.strategy_laws import STRATEGY_LAWS
from bench.check.toy import Subject
from bench.check.watched import stranger
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx
from tests.laws import planted
from tests.laws.small import on_small_net

NAMED = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry.names()]

# Per planted mistake the laws that it breaks, each with what its counterexample has to say.
MISTAKES = {
    "AliasedProx": {"strength acts": r"AliasedProx\(mu=0.1\) ends after 3 rounds .* all \d+ numbers differ by 0"},
    "UnsquaredProx": {"quadratic": r"'image_proj.weight' at w, w \+ d, w \+ 2d is 0, .*: its second difference is -0\.\d+, not 0"},
    "UnsquaredRoot": {"trains": r"client 0: what it adds to the gradient of .* nan, "},
    "ByBatches": {"mean by images": r"clients of 7, 12, 21 images: .* mean weighted by numbers of batches; .* convex = False"},
    "ByArrival": {"any order": r"models of 1e\+08, 1, -1e\+08, clients arriving as 0, 2, 1 .* is 0.333333343 instead of 0 "},
    "FloatSum": {"equal models": r"\(7, 12, 21\) images .* is 0.\d+ instead of 0.\d+ \(\d+ of its 72 numbers differ\)"},
    "Decays": {"alone": r"against centralized training: .* apart, after moving by \d"},
    "KeepsLive": {"no aliasing": r"round 1, client 0's memory `local` shares memory with the live parameters: 'last.image"},
    "ServerKeepsLive": {
        "any order": r"'last.image_proj.weight'\[.*\] is .* instead of",
        "no aliasing": r"client 1 changed the server's state without sending anything: 'last",
    },
    "ServerKeepsUpload": {"no aliasing": r"round 1: `server` shares memory with client 2's upload: 'steps' with 'steps'"},
    "WritesDownload": {
        "equal models": r"'final.bias'\[0\] is .* instead of",
        "no aliasing": r"after round 1, client 0's training, round 1, client 0's download was written to: 'final.bias'\[0\] is 0.5",
        "only what is sent": r"is .* instead of",
    },
    "MovesInPlace": {"no aliasing": r"after round 1's aggregation, round 1, client 0's download was written to"},
    "HoardsUploads": {"memory": r"needs \d+\.\d+ MB at once with 4 uploads and \d+\.\d+ MB with 12"},
    "HoardsArrays": {"memory": r"needs \d+\.\d+ MB at once with 4 uploads and \d+\.\d+ MB with 12"},
    "Whispers": {"only what is sent": r"is .* instead of .* something went past the ledger"},
    "WhispersToItself": {"only what is sent": r"is .* instead of .* something went past the ledger"},
    "CountsInModule": {"resumes": r"a stop after round 2 against none: .* is .* instead of"},
    "NumbersAsKeys": {"remembers": r"state sizes.0: a key must be a text, got 0", "resumes": "got 0"},
    "RemembersTuples": {"trains": r"state strategy.shape: got tuple; it must be a tensor"},
    "ByOrderOfNames": {"only what is sent": r"is .* instead of .* the order of names"},
    "DrawsGlobally": {"repeatable": r"`upload` draws from the global generator of torch"},
    "HalfWay": {"zero strength": r"after 3 rounds at rate = 0.0 against FedAvg\(\): .* is .* instead of"},
    "LeavesUploads": {"trains": r"LeavesUploads.aggregate left uploads in the iterator"},
    "Doubles": {"trains": r"round 1: 'image_proj.weight' has type, .*torch.float64, \(8, 1, 3, 3\)"},
    "NeedsAll": {
        "missing clients": r"clients \[0, 2\] of 3 arrived \(planted.py:\d+\)",
        "whole models": r"clients \[2\] of 3 arrived",
    },
    "HalfModels": {"missing clients": "KeyError: 'own'", "whole models": "KeyError: 'own'"},
    "SendsText": {"trains": "'str' object has no attribute"},
    "ReportsText": {"reports numbers": "'mood': 'good'"},
    "Damped": {},
    "Overlapping": {"splits": "2 clients: Overlapping: not disjoint: 1 samples are given more than once, the first is 0"},
    "Incomplete": {"splits": "not complete: 1 of 600 samples are given to no client, the first is 599"},
    "Lists": {"splits": "client 0 is not a 1-D integer array"},
    "RefusesAll": {"splits": "all 13 requests are refused, the last one: 10 clients are too many"},
    "RefusesMutely": {"splits": "5 clients: it refuses and does not say why"},
    "GlobalSplit": {
        "same rng same split": r"1 clients get other samples; client 0 \[\d+",
        "global generators": "13 splits draw from the global generator of numpy",
    },
    "Moody": {
        "same rng same split": r"client 0 \[\d+",
        "global generators": r"seeded by 1 and 2, 1 clients get other samples",
    },
    "WritesLabels": {"labels stay": r"541 labels were written to; label 0 was 9 and is 0"},
    "InOrder": {},
    "HiddenBeta": {"uses beta": "uses_beta = False, but it has a field beta"},
    "DeafToBeta": {"beta is skew": r"from beta 0.05 to 100 .* from 0\.\d+ to 0\.\d+"},
    "NegativeNoise": {"noise levels": r"1 clients: the noise level of client 0 must be .*, not -0.5"},
}  # fmt: skip
ON_THE_UNET = ("fedprox", "feddiffuse")  # the latter knows its parts; `python -m bench.check` tries all on it
LACKING = {"rng matters", "min size"}  # partition laws that are never broken, but told as not claimed


@pytest.fixture
def small():
    """Laws are tried on a small network, so that many mistakes can be."""
    with on_small_net():
        yield


def verdicts(plugin: Candidate) -> dict[str, Verdict]:
    torch.set_num_threads(1)
    return {verdict.law: verdict for verdict in report.verdicts_on(plugin)}


def broken(found: dict[str, Verdict]) -> dict[str, str]:
    return {law: verdict.reason for law, verdict in found.items() if verdict.outcome == "broken"}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_breaks_its_laws_and_no_others(small, name):
    (plugin,) = find(f"tests.laws.planted:{name}")
    found = broken(verdicts(plugin))
    assert found.keys() == MISTAKES[name].keys(), found
    for law, told in MISTAKES[name].items():
        assert re.search(told, found[law]), found[law]


def test_every_law_has_a_mistake_that_breaks_it():
    caught = {law for laws in MISTAKES.values() for law in laws}
    names = {law.__name__.replace("_", " ") for law in (*STRATEGY_LAWS, *PARTITION_LAWS)}
    assert names - caught == LACKING


@pytest.mark.parametrize(("kind", "name"), NAMED, ids=[" ".join(each) for each in NAMED])
def test_what_is_shipped_breaks_no_law(request, kind, name):
    pytest.importorskip(candidates.PACKAGES.get((kind, name), "torch"))
    if name not in ON_THE_UNET:
        request.getfixturevalue("small")
    (plugin,) = find(EXAMPLES.get((kind, name), name), kind)
    found = verdicts(plugin)
    assert broken(found) == {}
    assert "not tried" not in {verdict.outcome for verdict in found.values()}


def test_the_guides_example_breaks_no_law_and_needs_its_claims(small, monkeypatch):
    (plugin,) = find("docs.example_strategy:Damped(rate=0.5)")
    assert broken(verdicts(plugin)) == {}
    for claimed in ("convex", "alone_is_centralized"):
        monkeypatch.setattr(strategies.load(plugin.plugin.name), claimed, True)
    assert broken(verdicts(plugin)).keys() == {"mean by images", "alone"}


@pytest.mark.parametrize(("outcomes", "told"), [
    (["holds"] * 14 + ["broken"] * 2 + ["not claimed"], "14 laws hold, 2 are broken, 1 is not claimed"),
    (["holds"], "1 law holds, 0 are broken"),
    (["broken", "not tried", "not tried"], "0 laws hold, 1 is broken, 2 are not tried"),
])  # fmt: skip
def test_the_last_line_counts(outcomes, told):
    assert summary([Verdict("", "", outcome) for outcome in outcomes]) == told


def test_nothing_is_tried_once_the_first_law_is_broken():
    def first(subject):
        """One."""
        raise Broken("7")

    def second_law(subject):
        """Two."""

    found = list(judge([first, second_law], None))
    assert found == [
        Verdict("first", "One.", "broken", "7"),
        Verdict("second law", "Two.", "not tried", "'first' is broken"),
    ]
    assert [v.outcome for v in judge([second_law, first, second_law], None)] == ["holds", "broken", "holds"]


def test_a_claim_that_is_off_is_no_law(tmp_path):
    @claim("convex")
    def law(subject):
        """Never."""
        raise Broken("0.1 is not 0.2")

    on, off = Subject(FedAvg(), tmp_path), Subject(planted.Damped(), tmp_path)
    with pytest.raises(Broken, match=r"0\.1 is not 0\.2; if it is meant to be so, the class says convex = False"):
        law(on)
    with pytest.raises(NotClaimed, match="convex = False"):
        law(off)


def test_a_strategy_given_at_zero_is_not_asked_to_act(small):
    (plugin,) = find("fedprox(mu=0)")
    found = verdicts(plugin)
    assert broken(found) == {}
    assert found["zero strength"].outcome == "holds"
    assert found["strength acts"] == Verdict(
        "strength acts",
        "At its own strength it ends elsewhere than its first base class.",
        "not claimed",
        "it was given with mu = 0.0, at which nothing acts",
    )


def test_a_partition_that_is_deterministic_by_design_is_told():
    (plugin,) = find("tests.laws.planted:InOrder")
    found = verdicts(plugin)
    assert "every generator gives the same split" in found["rng matters"].reason
    assert "leaves that to `checked_split`" in found["min size"].reason


def test_the_parent_has_the_values_that_both_have(tmp_path):
    """AliasedProx derives from FedProx, which has mu, too: at mu = 0 it is FedProx(mu=0)."""
    assert Subject(planted.AliasedProx(mu=2.0), tmp_path).parent == FedProx(mu=0.0)
    assert type(Subject(FedProx(), tmp_path).parent) is FedAvg


def test_strangers_share_neither_instance_nor_class_nor_module():
    again = stranger(planted.WhispersToItself())
    assert type(again).__name__ == "WhispersToItself"
    assert type(again) is not planted.WhispersToItself
    assert type(again).upload.__globals__["WHISPERED"] is not planted.WHISPERED
    assert stranger(FedProx(mu=3.0)).mu == 3.0


def test_a_class_without_a_module_has_no_strangers():
    class Local(FedAvg):
        pass

    with pytest.raises(NotClaimed, match="cannot be loaded a second time"):
        stranger(Local())


def test_global_generators_are_looked_at_and_put_back():
    before = states()
    with seeded(3):
        inside = states()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        assert drawn_from(inside) == ["torch", "numpy"]
    assert drawn_from(before) == []


# ------------------------------------------------------------------------------------------ command line


@pytest.fixture
def quick(monkeypatch):
    """The laws of the command line's tests: a moment instead of seconds."""

    def at_hand(subject):
        """It is there."""

    def never(subject):
        """It is not FedProx."""
        if isinstance(subject.strategy, FedProx):
            raise Broken(f"mu = {subject.strategy.mu}")

    monkeypatch.setattr(strategy_laws, "STRATEGY_LAWS", (at_hand, never))
    monkeypatch.setattr(partition_laws, "PARTITION_LAWS", (at_hand,))


def test_a_table_and_a_count_are_printed_and_all_is_well(quick, capsys):
    assert main(["fedavg", "iid"]) == 0
    told = capsys.readouterr().out
    assert "strategy fedavg" in told
    assert "partition iid" in told
    assert re.search(r"at hand *│ holds *│ It is there\.", told)
    assert told.splitlines()[-1] == "3 laws hold, 0 are broken"


def test_a_broken_law_is_exit_code_1_with_its_counterexample(quick, capsys):
    assert main(["fedavg", "fedprox(mu=0.5)"]) == 1
    told = capsys.readouterr().out
    assert re.search(r"never *│ broken *│ mu = 0.5", told)
    assert told.splitlines()[-1] == "3 laws hold, 1 is broken"


def test_without_a_name_everything_is_tried(quick, capsys):
    assert main([]) == 1  # FedProx
    told = capsys.readouterr().out
    for kind, name in NAMED:
        assert f"{kind} {EXAMPLES.get((kind, name), name)}" in told
    assert main(["--kind", "partition"]) == 0
    assert "strategy" not in capsys.readouterr().out


def test_what_lacks_its_package_is_left_out_and_told(quick, capsys, monkeypatch):
    monkeypatch.setitem(candidates.PACKAGES, ("partition", "iid"), "no_such_package_here")
    assert main(["--kind", "partition"]) == 0
    told = capsys.readouterr()
    assert "left out: partition iid: the package no_such_package_here is not installed" in told.err
    assert "partition iid" not in told.out


def test_names_are_listed(capsys):
    assert main(["--list"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"strategy: {', '.join(strategies.registry.names())}",
        f"partition: {', '.join(partitions.registry.names())}",
    ]


def test_a_kind_is_asked_for_by_the_name_of_its_registry():
    assert tuple(REGISTRIES) == KINDS


def test_a_name_of_both_kinds_is_both_unless_a_kind_is_given(monkeypatch):
    monkeypatch.setattr(REGISTRIES["partition"], "_shipped", {"fedavg": partitions.IID})
    assert [plugin.kind for plugin in find("fedavg")] == ["strategy", "partition"]
    assert [plugin.kind for plugin in find("fedavg", "partition")] == ["partition"]


@pytest.mark.parametrize(("name", "told"), [
    ("fedavgg", r"no strategy or partition 'fedavgg' \(did you mean 'fedavg'\?\); strategies: centralized, .*; partitions: iid, .*; or your own"),
    ("fedprox(nu=1)", r"strategy: fedprox: unknown hyper-parameter 'nu' \(did you mean 'mu'\?\); allowed: mu"),
    ("fedprox(mu=-1)", r"strategy: fedprox: mu must be a finite number >= 0, got -1"),
    ('fedprox(mu="a")', r"strategy: fedprox\(mu\): got 'a'; it must be a valid number"),
    ("fedprox(mu", r"name: got 'fedprox\(mu'; write"),
    ("dirichlet(beta=1)", r"partition: dirichlet\(beta=1\): leave beta out; the laws try several"),
    ("dirichlet(min_size=0)", r"partition: dirichlet: min_size must be at least 1, not 0"),
    ("no_such_module_here:Thing", r"'no_such_module_here:Thing': no module 'no_such_module_here' on the import path$"),
    ("tests.laws.planted:ByBatchs", r"module 'tests.laws.planted' has no 'ByBatchs' \(did you mean 'ByBatches'\?\)$"),
    ("json:JSONDecoder", r"is not a subclass of strategies.base.Strategy with all its methods; .*partitions.base.Partition"),
    ("tests.laws.planted:BetaIsMissing", r"uses_beta = True, but it has no field beta"),
    ("tests.laws.planted:NeedsMore", r"strategy: tests.laws.planted:NeedsMore: its hyper-parameter 'much' is missing; write .*NeedsMore\(much=...\)"),
    ("tests.laws.planted:Explodes", r"strategy: tests.laws.planted:Explodes: it cannot be made: ZeroDivisionError: division by zero"),
])  # fmt: skip
def test_what_cannot_be_tried_is_told_in_a_line_and_exit_code_2(quick, capsys, name, told):
    assert main(["fedavg", name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(told, said.err.strip()), said.err
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) == 1


def test_a_strategy_may_call_a_hyper_parameter_beta():
    (plugin,) = find("tests.laws.planted:HasBeta(beta=0.5)")
    assert plugin.plugin.params == {"beta": 0.5}
    assert plugin.make(beta=7).beta == 0.5


def test_ctrl_c_ends_it(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "report", interrupt)
    assert main(["fedavg"]) == 130
    assert "interrupted" in capsys.readouterr().err


EXAMPLE = Path(__file__).parents[2] / "docs" / "example_strategy.py"
MODULE = '''
import numpy as np

from partitions import Partition


@dataclass(frozen=True)
class Halves(Partition):
    """The first client has half of the samples."""

    def split(self, labels, n_clients, rng):
        order = rng.permutation(len(labels))
        if n_clients == 1:
            return [order]
        return [order[: len(labels) // 2], *np.array_split(order[len(labels) // 2 :], n_clients - 1)]
'''


def test_modules_in_the_current_folder_are_found_and_pass(tmp_path):
    """In a process of its own, as a user runs it."""
    (tmp_path / "my_module.py").write_text(EXAMPLE.read_text() + MODULE)
    done = subprocess.run(
        [sys.executable, "-m", "bench.check", "my_module:Damped(rate=0.25)", "my_module:Halves"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "strategy my_module:Damped(rate=0.25)" in done.stdout
    assert "partition my_module:Halves" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("laws hold, 0 are broken, 6 are not claimed")
