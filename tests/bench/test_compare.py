#!/usr/bin/env python3
"""test_compare.py STEP_BENCH: bench/compare.py with a peer that is step_bench again in the place of PyTorch."""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEP_BENCH = sys.argv.pop(1)
sys.path.insert(0, str(ROOT / "bench"))
sys.dont_write_bytecode = True
import compare_report  # noqa: E402

# Stands for the interpreter: is given the peer's script and its options, and answers as step_bench does.
PEER = """#!/usr/bin/env python3
import json, subprocess, sys
options, known = [], sys.argv[2:]
for name, value in zip(known[::2], known[1::2]):
    if name not in ("--mode", "--activation-budget", "--checkpoint"):
        options += [name, value]
FACTOR = {factor}
child = subprocess.Popen([{bench!r}, "serve", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
hello = json.loads(child.stdout.readline())
if hello["ready"]:
    hello["torch"] = "0"
print(json.dumps(hello), flush=True)
for line in sys.stdin:
    child.stdin.write(line)
    child.stdin.flush()
    reply = json.loads(child.stdout.readline())
    if "losses" in reply:
        reply["losses"] = [loss * FACTOR for loss in reply["losses"]]
    print("a library's own line\\n" + json.dumps(reply), flush=True)
"""


class CompareTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def run_compare(self, *options, factor=1, text=None):
        peer = pathlib.Path(self.folder.name) / "peer"
        peer.write_text(PEER.format(factor=factor, bench=STEP_BENCH) if text is None else text)
        peer.chmod(0o755)
        shape = ["--layers", "3", "--width", "32", "--batch", "64", "--rounds", "3", "--steps", "1", "--threads", "1", "--lr", "0.1"]
        command = [sys.executable, str(ROOT / "bench" / "compare.py"), "--bench", STEP_BENCH, "--python", str(peer)]
        return subprocess.run([*command, *shape, *options], capture_output=True, text=True, timeout=60)

    def test_equal_curves_are_timed(self):
        done = self.run_compare("--mode", "eager", "--mode", "checkpoint_sequential")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(len(re.findall(r"equal within", done.stdout)), 2)
        self.assertIn("| 1.00 |", done.stdout)  # it keeps as much as itself
        self.assertNotIn("to reach", done.stdout)  # nothing on a CPU says what a GPU does

    def test_other_curves_are_not_counted(self):
        done = self.run_compare(factor=1.01)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stdout, r"not counted: loss curves differ by 0\.01")
        self.assertNotIn("equal within", done.stdout)

    def test_curves_that_stand_still_show_nothing(self):
        self.assertRegex(self.run_compare("--lr", "0").stdout, "not counted: the loss moved by 0 of itself")

    def test_refusals_are_named(self):
        done = self.run_compare("--precision", "tf32", "--precision", "bf16")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout.count("not counted: the CPU's matrix products are in fp32"), 1)
        self.assertEqual(len(re.findall(r"bf16, sgd \| eager .* equal within", done.stdout)), 1)

    def test_a_peer_that_ends_is_named(self):
        self.assertRegex(self.run_compare(text="#!/bin/sh\necho no torch here >&2\nexit 3\n").stdout,
                         "not counted: ended with status 3: no torch here")

    def test_rows_are_kept_and_not_measured_again(self):
        rows = pathlib.Path(self.folder.name) / "rows.jsonl"
        late = self.run_compare("--results", str(rows), "--limit", "-1")
        self.assertEqual(late.returncode, 3, late.stdout)
        self.assertIn("1 rows are left", late.stdout)
        self.run_compare("--results", str(rows))
        first = rows.read_text()
        self.assertEqual(len(first.splitlines()), 1)
        again = self.run_compare("--results", str(rows))
        self.assertEqual((again.returncode, rows.read_text()), (0, first))
        self.run_compare("--results", str(rows), "--optimizer", "adam")
        self.assertEqual(len(rows.read_text().splitlines()), 2)

    def test_a_row_that_failed_has_no_figure(self):
        rows = [dict(self.row(), failed="refused")]
        del rows[0]["pairs"]
        self.assertEqual({t[2] for t in compare_report.targets(rows)}, {None})
        self.assertEqual(compare_report.target_table(rows)[2].count(compare_report.NOT_MEASURED), 1)

    def test_modes_come_one_after_the_other(self):
        """A run that is cut short has measured the modes that figures are taken from at every size."""
        order = self.run_compare("--mode", "eager", "--mode", "compile", "--optimizer", "sgd", "--optimizer", "adam").stderr
        self.assertEqual([line.rsplit(", ", 1)[1] for line in order.splitlines()], ["eager", "eager", "compile", "compile"])

    def test_figures_are_the_worst_of_a_gpus_rows(self):
        slow, fast = self.row(), self.row()
        slow["pairs"], fast["pairs"] = [[1, 4], [1, 6], [1, 5]], [[1, 8]] * 3
        found = {t[0]: t[2] for t in compare_report.targets([fast, slow])}
        self.assertEqual(found["launch-bound, eager / ckpt"], 5)
        self.assertEqual(found["activations kept, PyTorch eager / ckpt, fp32"], 2.25)
        self.assertIsNone(found["width 1024, eager / ckpt"])
        cpu = dict(self.row(), device="cpu")
        self.assertNotIn("2.25", "".join(compare_report.target_table([cpu])))

    @staticmethod
    def row():
        return {"size": "launch-256", "shape": [16, 256, 128], "precision": "fp32", "optimizer": "sgd", "mode": "eager",
                "device": "cuda", "pairs": [[1, 5]], "ckpt_memory": {"saved_bytes": 4, "step_flops": 1},
                "torch_memory": {"saved_bytes": 9}}


if __name__ == "__main__":
    unittest.main()
