"""Tables of what bench/compare.py measured: time, memory, and the figures to reach on an H200.

    print(tables(rows))   # rows as compare.py writes them, one JSON object a line

Nothing is derived from a row that failed, and the figures to reach are taken from rows of a GPU only.
"""

import statistics

NOT_MEASURED = "not yet measured"


def ratio(row):
    """Median over pairs of PyTorch's seconds over ours, or None where the row has no times."""
    return statistics.median(b / a for a, b in row["pairs"]) if "pairs" in row else None


def milliseconds(row, side):
    return 1e3 * statistics.median(pair[side] for pair in row["pairs"])


def rate(row):
    """FLOP/s of our whole step, without what is recomputed."""
    return row["ckpt_memory"]["step_flops"] / statistics.median(a for a, _ in row["pairs"])


def mib(count):
    return f"{count / (1 << 20):.1f}" if count is not None else "-"


def saved_ratio(row):
    saved = row["torch_memory"].get("saved_bytes")
    return saved / row["ckpt_memory"]["saved_bytes"] if saved else None


def name_of(row):
    layers, width, batch = row["shape"]
    return f"{layers} x {width}, batch {batch}, {row['precision']}, {row['optimizer']}"


def time_table(rows):
    lines = ["| network | PyTorch | ckpt ms/step | PyTorch ms/step | PyTorch / ckpt (median, min-max) | ckpt TFLOP/s | loss curves |",
             "| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        if "pairs" not in row:
            lines.append(f"| {name_of(row)} | {row['mode']} | | | | | not counted: {row['failed'].replace('|', '/')} |")
            continue
        ratios = [b / a for a, b in row["pairs"]]
        lines.append(f"| {name_of(row)} | {row['mode']} | {milliseconds(row, 0):.3f} | {milliseconds(row, 1):.3f} "
                     f"| {ratio(row):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) | {rate(row) * 1e-12:.3g} "
                     f"| equal within {row['curve']:.1g} |")
    return lines


def memory_table(rows):
    lines = ["| network | PyTorch | saved, PyTorch / ckpt | PyTorch peak MiB | ckpt planned MiB | planned = requested "
             "| whole process MiB, PyTorch, ckpt | ckpt context MiB | recomputed |",
             "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |"]
    for row in rows:
        if "pairs" not in row:
            continue
        ours, torch = row["ckpt_memory"], row["torch_memory"]
        saved, process = saved_ratio(row), ours["device_process_bytes"]
        equal = "equal" if ours["planned_bytes"] == ours["peak_bytes"] else f"DIFFERENT: {ours['peak_bytes']} bytes"
        lines.append(f"| {name_of(row)} | {row['mode']} | {f'{saved:.2f}' if saved else '-'} | {mib(torch['peak_bytes'])} "
                     f"| {mib(ours['planned_bytes'])} | {equal} "
                     f"| {mib(torch['device_process_bytes'])}, {mib(process)} "
                     f"| {mib(process - ours['peak_bytes']) if process is not None else '-'} "
                     f"| {100 * ours['recompute_flops'] / ours['step_flops']:.1f} % |")
    return lines


def least(rows, value, **wanted):
    """The least value over rows that match and have one; None if there is none."""
    values = [value(row) for row in rows if "pairs" in row and all(row[k] == v for k, v in wanted.items())]
    values = [v for v in values if v is not None]
    return min(values) if values else None


def product_share(row):
    return rate(row) / row["product_flops_per_second"] if "product_flops_per_second" in row else None


def launch_bound(rows):
    return [row for row in rows if row["size"].startswith("launch")]


def targets(rows):
    """(what, figure to reach, measured or None) of what an H200 should show; the worst of several rows counts."""
    found = [("activations kept, PyTorch eager / ckpt, fp32", 2.2, least(rows, saved_ratio, mode="eager", precision="fp32")),
             ("activations kept, PyTorch eager / ckpt, bf16", 2.4, least(rows, saved_ratio, mode="eager", precision="bf16")),
             ("launch-bound, eager / ckpt", 5, least(launch_bound(rows), ratio, mode="eager")),
             ("launch-bound, reduce-overhead / ckpt", 1.3, least(launch_bound(rows), ratio, mode="compile-reduce-overhead"))]
    for size, eager, tuned in (("1024", 1.35, 1.1), ("4096", 1.1, 1.03)):
        found += [(f"width {size}, eager / ckpt", eager, least(rows, ratio, mode="eager", size=size)),
                  (f"width {size}, max-autotune / ckpt", tuned, least(rows, ratio, mode="compile-max-autotune", size=size))]
    bf16 = [rate(row) * 1e-12 for row in rows if "pairs" in row and row["size"] == "8192" and row["precision"] == "bf16"
            and row["mode"] != "checkpoint_sequential"]
    found += [("width 8192, bf16, whole step, TFLOP/s", 690, statistics.median(bf16) if bf16 else None),
              ("tf32, whole step / plain product", 0.7, least(rows, product_share, precision="tf32", size="8192")),
              ("at checkpoint_sequential's peak, it / ckpt", 1.25, least(rows, ratio, mode="checkpoint_sequential"))]
    return found


def target_table(rows):
    lines = ["| figure (the least of its rows) | to reach | measured |", "| --- | ---: | ---: |"]
    for what, wanted, measured in targets([row for row in rows if row["device"] == "cuda"]):
        lines.append(f"| {what} | {wanted} | {NOT_MEASURED if measured is None else f'{measured:.3g}'} |")
    return lines


def tables(rows):
    """All of it as Markdown."""
    if not rows:
        return "Not measured."
    order = {name: i for i, name in enumerate(("fp32", "tf32", "bf16"))}
    rows = sorted(rows, key=lambda row: (row["shape"][1:], row["shape"][0], order[row["precision"]], row["optimizer"]))
    lines = [*time_table(rows), "", *memory_table(rows)]
    if any(row["device"] == "cuda" for row in rows):
        lines += ["", *target_table(rows)]
    versions = sorted({f"PyTorch {row['torch']} on {row['torch_device']}, ckpt {row['ckpt']}" for row in rows if "pairs" in row})
    counts = sorted({len(row["pairs"]) for row in rows if "pairs" in row})
    lines += ["", f"{'; '.join(versions) or 'No row has times'}; medians of {', '.join(map(str, counts)) or 'no'} pairs."]
    return "\n".join(lines)
