#!/usr/bin/env python3
"""Type-checks the usage example at the head of every public header.

    header_examples.py ROOT BUILD COMPILER [COMPILER OPTION...] [-- HEADER...]

An example is what stands indented by four more spaces in the first comment of a header. Each becomes the body of a function,
behind the declarations that header_examples.txt has for the names that the example presupposes, and goes through the compiler
(-fsyntax-only). `...` stands for anything: a line of it alone is left out, `if (x) ...` has an empty body, `= ...` is a value, and
`, ...` are more of the same. Headers that the table skips are named in the output.
"""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDERS = ("src", "planner", "runtime", "proto")
CHECKS = ["-x", "c", "-std=gnu11", "-fsyntax-only", "-D_GNU_SOURCE", "-Werror=implicit-function-declaration",
          "-Werror=incompatible-pointer-types", "-Werror=int-conversion", "-Werror=discarded-qualifiers", "-Wno-unused-value"]


def example_of(text):
    """The lines of the example in the comment before the include guard: the first ones that stand indented."""
    lines = []
    for line in text.split("#ifndef", 1)[0].splitlines():
        if re.match(r" \*     \S" if not lines else r" \*     +\S", line):
            lines.append(line[7:])
        elif lines and line.strip() != "*":
            break
    return lines


def statements(lines):
    """The example as C: every `...` replaced."""
    code = "\n".join(line for line in lines if line.strip() != "...")
    code = re.sub(r"=\s*\.\.\.", "= 0", code)
    code = re.sub(r",\s*\.\.\.", "", code)
    return re.sub(r"\.\.\.(?=\s*(//.*|})?$)", "{ }", code, flags=re.M)


def read_table(path):
    """{folder or header: (declarations by name, reason to skip)}; '' holds for all."""
    table, at = {"": ({}, None)}, ""
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            at = line.strip("[]")
            table[at] = ({}, None)
        elif line.startswith("skip:"):
            table[at] = (table[at][0], line[5:].strip())
        else:
            for part in re.sub(r"[(\[].*?[)\]]", "", line).rstrip("; ").split(","):
                table[at][0][part.split()[-1].lstrip("*")] = line
    return table


def facts_for(header, table):
    """Declarations and reason to skip: those of a folder count below it, and a header's own before them."""
    declarations, reason = {}, None
    for key in sorted(table, key=len):
        if header.startswith(key):
            declarations.update(table[key][0])
            reason = table[key][1] or reason
    return declarations, reason


def homes_of(root, headers):
    """{type or function: headers that declare it}"""
    found = {}
    for header in headers:
        text = (root / header).read_text()
        for names in re.findall(r"^(?:}|typedef [^;{]*?)\s*\b(\w+);|^typedef struct (\w+)|^\w[^(;{=]*?\b(ckpt_\w+)\(", text, re.M):
            found.setdefault(names[0] or names[1] or names[2], []).append(header)
    return found


def program(header, lines, declarations, homes):
    """A translation unit with the example in it."""
    code = statements(lines)
    words = set(re.findall(r"(?<![\w.>])[A-Za-z_]\w*", re.sub(r"//.*|\"(?:\\.|[^\"])*\"", "", code)))
    needed = [line for name, line in declarations.items() if name in words and name != "err"]
    if "err" in words:  # a value where its address is taken, else what a function is given
        needed.append("ckpt_error err;" if "&err" in code else "ckpt_error *err;")
    text = " ".join([code, *needed])
    includes = {header, "src/base/status.h"} | {homes[w][0] for w in re.findall(r"\w+", text) if w in homes and header not in homes[w]}
    out = [*(f"#include <{h}.h>" for h in ("stdatomic", "stdbool", "stdint", "stdio", "string")), *(f'#include "{i}"' for i in sorted(includes)), *dict.fromkeys(needed)]
    if re.match(r"(CKPT_VECTOR )?static", code):
        return "\n".join([*out, f'#line 1 "example in {header}"', code, ""])
    return "\n".join([*out, "int example(int argc, char **argv);", "int example(int argc, char **argv) {", "    (void)argc, (void)argv;",
                      "    {", f'#line 1 "example in {header}"', code, "    }", "    return 0;", "}", ""])


def main():
    words = sys.argv[1:]
    chosen = words[words.index("--") + 1:] if "--" in words else []
    root, build, compiler = Path(words[0]), Path(words[1]), words[2:words.index("--") if "--" in words else None]
    paths = [root, root / "src", root / "runtime", *sorted((build / "include").iterdir())]
    options = [*CHECKS, *(f"-I{path}" for path in paths)]
    headers = sorted(str(p.relative_to(root)) for f in FOLDERS for p in (root / f).rglob("*.h"))
    table, homes = read_table(Path(__file__).with_name("header_examples.txt")), homes_of(root, headers)

    def check(header):
        lines = example_of((root / header).read_text())
        declarations, reason = facts_for(header, table)
        if not lines or reason:
            return header, reason if lines else None, None
        unit = program(header, lines, declarations, homes)
        run = subprocess.run([*compiler, *options, "-"], input=unit, text=True, capture_output=True, cwd=root)
        return header, None, run.stderr if run.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(check, [h for h in headers if not chosen or h in chosen]))
    for header, reason, _ in results:
        if reason:
            print(f"skipped: {header}: {reason}")
    wrong = [(header, errors) for header, _, errors in results if errors]
    for header, errors in wrong:
        print(f"{header}: its example does not compile:\n{errors}")
    print(f"{sum(errors == '' for _, _, errors in results)} examples compile, {len(wrong)} do not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
