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
    bad("float_labels", y=Y.astype(np.float64))
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
    (OUT / "made_with.txt").write_text(
        f"make_data.py with numpy {np.__version__}, Python {platform.python_version()}\n")
