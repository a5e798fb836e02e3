#!/usr/bin/env python3
"""Makes the seed corpora of the fuzz targets from files of this tree: seeds/model from the small golden models, seeds/data
from the data tests' files, seeds/plan a byte for each training graph, seeds/state a sound state
file and one of another run, seeds/cost_cache rates, times and a file of another machine. Run it again when those files change;
the result is the same for the same files.

    tests/fuzz/make_seeds.py            # writes tests/fuzz/seeds
"""
import hashlib
import pathlib
import shutil
import struct

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parent.parent
MOST_MODEL_BYTES = 900
MOST_DATA_BYTES = 1200


def start(name):
    folder = HERE / "seeds" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def models(folder):
    """Options, what lies beside the model, its size, the strategy: by the name, so that all combinations come up."""
    for path in sorted((TREE / "tests" / "golden").rglob("*.onnx")):
        content = path.read_bytes()
        if len(content) > MOST_MODEL_BYTES:
            continue
        name = "-".join(path.relative_to(TREE / "tests" / "golden").parent.parts)
        digest = hashlib.sha256(name.encode()).digest()
        header = bytes([digest[0] | 4, digest[1] & 0xC7, 8, digest[2] % 7 | 64 | digest[3] & 128])
        (folder / name).write_bytes(header + content)


def data(folder):
    container = {".npz": 0, ".npy": 1, ".idx": 3, ".gz": 7}
    source = TREE / "tests" / "data" / "files"
    for path in sorted(source.iterdir()):
        content = path.read_bytes()
        if len(content) <= MOST_DATA_BYTES and path.suffix != ".txt":
            (folder / path.name).write_bytes(bytes([container.get(path.suffix, 3), 0x2D]) + content)
    x, y = (source / "x_v1.npy").read_bytes(), (source / "y.npy").read_bytes()
    for kind, name in ((5, "wrapped_stored"), (6, "wrapped_deflated")):
        (folder / name).write_bytes(bytes([kind, 0x2D]) + len(x).to_bytes(2, "little") + x + y)
    (folder / "wrapped_csv").write_bytes(bytes([0x84, 0x6D]) + b"x;y\n1;a\n2;b\n3;c\n")
    (folder / "wrapped_gzip").write_bytes(bytes([4, 0]) + (source / "images-idx3-ubyte").read_bytes())
    texts = ("a,b,c,d,y\n1,2,3,4,0\n5,6,7,8,2\n", '\ufeff"a,""1""",b,y\r\n1.5,-2,3e-1\r\n"5",6,7', "x_0,x_1,label\n1,2,3\n",
             "y\n1\n2\n", "x,y1,y2\n1e300,.5,1\n", "x_0;x_1;y\r1,5;2;cat\r0,25;3;dog\r1;2;ant\r", "sep=;\r\nid;x;y\r\nr1;1;a\r\nr2;2;b\r\n",
             ",x1\tx0\ty\n0\t1\t2\tTrue\n", "a|b|y\n1|2|no\n3|4|yes\n")
    for i, text in enumerate(texts):
        (folder / f"text_{i}.csv").write_bytes(bytes([2, 0x20 if i else 0x2D]) + text.encode())


def plans(folder):
    for kind in range(4):
        (folder / f"graph_{kind}").write_bytes(bytes([kind]))


def states(folder):
    """Padded and with a checksum by the target: text, steps and figures, the 80 floats of its graph."""
    figures = struct.pack("<qq6d", 12, 40, 20, 2.5, 1.5, 0.5, -1, -1)
    tensors = struct.pack("<80f", *(i / 8 for i in range(80)))
    for name, seed, tail in (("sound", 5, figures + tensors), ("other_seed", 6, figures + tensors), ("short", 5, figures)):
        text = f"ckpttrain state 2\n--seed {seed}\ndata abc\n"
        (folder / name).write_bytes(b"\x03" + text.encode() + b"\0" + tail)


def cost_caches(folder):
    """The target writes build and machine in front of all but the last."""
    rates = '"schema":"ckpt-device/2","flops_per_second":1e11,"bytes_per_second":2e10,"launch_seconds":1e-06,"product_launch_seconds":2e-06}'
    times = ('"schema":"ckpt-profile/1","graph_hash":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",'
             '"seconds":[1e-05,2e-05,0.0,4000,3,0.1]}')
    for name, flags in ("", 0), ("_planned", 4):
        (folder / f"rates{name}").write_bytes(bytes([2 | flags]) + rates.encode())
        (folder / f"times{name}").write_bytes(bytes([3 | flags]) + times.encode())
    (folder / "elsewhere").write_bytes(b"\x00" + b'{"build":"0","machine":"another x 2",' + rates.encode())


models(start("model"))
data(start("data"))
plans(start("plan"))
states(start("state"))
cost_caches(start("cost_cache"))
