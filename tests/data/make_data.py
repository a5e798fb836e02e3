#!/usr/bin/env python3
"""Writes the golden files of tests/data/files with numpy. Run it by hand; the outputs are committed.

The values are simple enough to be stated again in test_data_files.c: x counts up from 0 in steps of
0.5, y is the row modulo 3. files/made_with.txt records the versions.
"""
import gzip
import io
import pathlib
import platform
import struct
import zipfile

import numpy as np

OUT = pathlib.Path(__file__).parent / "files"
ROWS, COLUMNS = 6, 4
X = (np.arange(ROWS * COLUMNS) * 0.5).reshape(ROWS, COLUMNS).astype(np.float32)
Y = (np.arange(ROWS) % 3).astype(np.int64)

# Same bytes on every run: numpy stamps members with the local time.
zipfile.time.localtime = lambda *_: (1980, 1, 1, 0, 0, 0, 0, 1, 0)


def npz(name, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(OUT / name, **arrays)


def npy(name, array, version=None):
    with open(OUT / name, "wb") as f:
        np.lib.format.write_array(f, array, version=version, allow_pickle=True)


def idx(name, code, array, packed=False):
    data = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()
    (OUT / name).write_bytes(gzip.compress(data, mtime=0) if packed else data)


class Unseekable(io.RawIOBase):
    """A pipe, as far as zipfile can tell: sizes then follow the data."""

    def __init__(self):
        self.parts = []

    def writable(self):
        return True

    def write(self, data):
        self.parts.append(bytes(data))
        return len(data)


def good_files():
    npz("stored.npz", x=X, y=Y)
    npz("deflated.npz", compressed=True, x=X, y=Y)
    npz("many.npz", x=X.astype(np.float64), y=Y, z=X, extra=np.zeros(2))
    pipe = Unseekable()
    np.savez_compressed(pipe, x=X, y=Y)
    (OUT / "descriptors.npz").write_bytes(b"".join(pipe.parts))
    limit, zipfile.ZIP64_LIMIT = zipfile.ZIP64_LIMIT, 0
    npz("zip64.npz", x=X, y=Y)
    zipfile.ZIP64_LIMIT = limit
    kinds = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"]
    for order in "<>":
        types = {k: (np.arange(8).reshape(4, 2) % (2 if k == "b1" else 8)).astype(order + k) for k in kinds}
        npz("types_little.npz" if order == "<" else "types_big.npz", **types)
    npz("half.npz", x=np.array([[0.0, -0.0, 1.5, -65504.0, 2.0**-24, 2.0**-14, 1 / 3]], np.float16))
    npz("fortran.npz", x=np.asfortranarray(np.arange(24, dtype=">f8").reshape(4, 3, 2)))
    for v in (1, 2, 3):
        npy(f"x_v{v}.npy", X, (v, 0))
    npy("y.npy", Y)
    pixels = np.arange(2 * 3 * 2, dtype=np.uint8).reshape(2, 3, 2) + 243
    idx("images-idx3-ubyte", 8, pixels)
    idx("images-idx3-ubyte.gz", 8, pixels, packed=True)
    idx("labels-idx1-ubyte", 8, np.array([2, 1], np.uint8))
    idx("floats.idx", 0x0D, np.array([[0.25, -2]], ">f4"))
    npz("one_hot.npz", x=X, y=np.eye(3, dtype=np.int64)[Y])


def packed_files():
    """Everything gzipped, by Python's gzip; one of several members, as gzip appends them."""
    for name in ("x_v1.npy", "y.npy", "stored.npz", "labels-idx1-ubyte"):
        (OUT / f"{name}.gz").write_bytes(gzip.compress((OUT / name).read_bytes(), mtime=0))
    text = "".join(f"{','.join(str(v) for v in row)},{label}\n" for row, label in zip(X, Y)).encode()
    header = b"a,b,c,d,y\n"
    (OUT / "table.csv.gz").write_bytes(gzip.compress(header, mtime=0) + gzip.compress(text, mtime=0))
    (OUT / "table.tsv.gz").write_bytes(gzip.compress((header + text).replace(b",", b"\t"), mtime=0))
    (OUT / "bad_cut.csv.gz").write_bytes(gzip.compress(header + text, mtime=0)[:-9])
    (OUT / "bad_crc.csv.gz").write_bytes(gzip.compress(header + text, mtime=0)[:-8] + b"\0" * 8)
    (OUT / "bad_tail.csv.gz").write_bytes(gzip.compress(header + text, mtime=0) + b"tail")
    (OUT / "bad_nothing.csv.gz").write_bytes(gzip.compress(b"", mtime=0))


def names():
    x = np.arange(6, dtype=np.float32)
    words = np.array(["bee", "ant", "\u00e9t\u00e9", "ant", "bee", "\u00e9t\u00e9"])
    npz("names_ucs4.npz", x=x, y=words)
    npz("names_ucs4_big.npz", x=x, y=words.astype(">U3"))
    npz("names_bytes.npz", x=x, y=np.array([b"bee", b"ant", b"wasp", b"ant", b"bee", b"wasp"]))
    npz("bad_names_numbers.npz", x=x, y=(np.arange(6) % 3).astype("U1"))
    npz("bad_names_empty.npz", x=x, y=np.array(["ant", "", "bee", "ant", "bee", "wasp"]))
    npz("bad_names_two.npz", x=x, y=np.array(["ant", "bee"] * 3))
    npz("bad_names_input.npz", x=words, y=(np.arange(6) % 3))


def integers():
    npz("rounded.npz", x=np.array([[1, 2**24, 2**24 + 1, -(2**31) + 1]]), y=np.array([0]))
    npz("whole_floats.npz", x=X, y=Y.astype(np.float64))
    npz("bad_fraction.npz", x=X, y=np.where(np.arange(ROWS) == 3, 1.5, Y))
    npz("bad_int32.npz", x=X, y=np.where(np.arange(ROWS) == 2, 2**31, Y))


def doubled():
    with zipfile.ZipFile(OUT / "bad_doubled.npz", "w") as z:
        for name in ("x", "z", "z", "y"):
            with z.open(name + ".npy", "w") as f:
                np.lib.format.write_array(f, Y if name == "y" else X)


def bad_files():
    def bad(name, x=X, y=Y):
        npz(f"bad_{name}.npz", x=x, y=y)

    nan, inf = X.copy(), X.astype(np.float64)
    nan[2, 1] = np.nan
    inf[3, 0] = 1e300
    bad("nan", nan)
    bad("nan_fortran", np.asfortranarray(nan))
    bad("overflow", inf)
    bad("label", y=Y + 1)
    bad("negative", y=Y - 1)
    bad("u64", y=np.full(ROWS, 2**63, np.uint64))
    bad("samples", y=Y[:-1])
    bad("values", X[:, :3])
    bad("integer_values", y=np.stack([Y, Y], 1))
    bad("empty", X[:0], Y[:0])
    bad("scalar", np.float32(1))
    bad("no_values", X[:, :0])
    bad("complex", X.astype(np.complex64))
    bad("string", X.astype("U4"))
    bad("object", np.array([[1, "a"]], dtype=object))
    bad("record", np.zeros(ROWS, [("a", "f4"), ("b", "i4")]))
    bad("dates", np.zeros((ROWS, COLUMNS), "M8[s]"))
    bad("long_double", X.astype(np.longdouble))
    bad("axes", np.zeros((ROWS,) + (1,) * 9, np.float32))
    npz("bad_names.npz", features=X, labels=Y)
    with zipfile.ZipFile(OUT / "bad_bzip2.npz", "w", zipfile.ZIP_BZIP2) as z:
        with z.open("x.npy", "w") as f:
            np.lib.format.write_array(f, X)
    data = bytearray((OUT / "stored.npz").read_bytes())
    data[data.find(b"\n") + 3] ^= 1
    (OUT / "bad_crc.npz").write_bytes(data)
    (OUT / "bad_cut.npz").write_bytes(data[:-30])
    # A member that claims far more than deflate could unpack: refused before any memory is asked for.
    data = bytearray((OUT / "deflated.npz").read_bytes())
    central = data.find(b"PK\1\2")
    data[central + 24 : central + 28] = struct.pack("<I", 1 << 30)
    (OUT / "bad_bomb.npz").write_bytes(data)
    # A header that claims more elements than the member has bytes.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 4)})
    (OUT / "bad_claim.npy").write_bytes(header.getvalue() + b"\0" * 16)
    (OUT / "bad_trailing.npy").write_bytes((OUT / "x_v1.npy").read_bytes() + b"\0" * 5)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    good_files()
    bad_files()
    packed_files()
    names()
    integers()
    doubled()
    (OUT / "made_with.txt").write_text(
        f"make_data.py with numpy {np.__version__}, Python {platform.python_version()}\n")
