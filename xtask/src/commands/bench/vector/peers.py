# SPDX-License-Identifier: MIT OR Apache-2.0
"""Other libraries on the same data, driven like our own bench: builds, then one run for each line on standard input.

    peers.py <hnswlib|faiss-hnsw|faiss-ivfpq|svs|usearch> <directory>

A line is `<tune|report> <number>…`; the numbers are the peer's search parameters. One thread. All queries of a half go to
the library in one call, so that no time of the interpreter counts; libraries that work on batches may use that.
"""

import json
import pathlib
import sys
import time

import numpy as np

COUNT = 10


def memory():
    """Resident bytes of this process."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def hnswlib(base):
    import hnswlib

    index = hnswlib.Index(space="ip", dim=base.shape[1])
    index.init_index(max_elements=len(base), M=16, ef_construction=200)
    index.add_items(base, num_threads=1)
    index.set_num_threads(1)

    def search(query, ef):
        index.set_ef(int(ef))
        return index.knn_query(query, COUNT, num_threads=1)[0]

    return search


def faiss_hnsw(base):
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(base.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    index.add(base)

    def search(query, ef):
        index.hnsw.efSearch = int(ef)
        return index.search(query, COUNT)[1]

    return search


def faiss_ivfpq(base):
    import faiss

    faiss.omp_set_num_threads(1)
    halves = base.shape[1] // 2
    lists = 1024
    made = f"IVF{lists},PQ{halves}x4fs,RFlat"
    index = faiss.index_factory(base.shape[1], made, faiss.METRIC_INNER_PRODUCT)
    index.train(base[: lists * 100])
    index.add(base)
    inner = faiss.extract_index_ivf(index.base_index)

    def search(query, probes, factor):
        inner.nprobe = int(probes)
        index.k_factor = float(factor)
        return index.search(query, COUNT)[1]

    return search


def svs(base):
    import svs

    parameters = svs.VamanaBuildParameters(graph_max_degree=64, window_size=200, alpha=0.95)
    index = svs.Vamana.build(parameters, base, svs.DistanceType.MIP, num_threads=1)

    def search(query, window):
        index.search_window_size = int(window)
        return index.search(query, COUNT)[0]

    return search


def usearch(base):
    from usearch.index import Index

    index = Index(ndim=base.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=200)
    index.add(np.arange(len(base)), base, threads=1)

    def search(query, ef):
        index.expansion_search = int(ef)
        return index.search(query, COUNT, threads=1).keys

    return search


PEERS = {
    "hnswlib": hnswlib,
    "faiss-hnsw": faiss_hnsw,
    "faiss-ivfpq": faiss_ivfpq,
    "svs": svs,
    "usearch": usearch,
}


def main():
    peer, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    meta = json.loads((directory / "meta.json").read_text())

    def unit(name):
        rows = np.fromfile(directory / name, dtype="<f4").reshape(-1, meta["dim"])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    base, queries = unit("base.f32"), unit("query.f32")
    truth = np.fromfile(directory / "truth.i32", dtype="<i4").reshape(-1, meta["truth"])[:, :COUNT]
    before, started = memory(), (time.perf_counter(), time.process_time())
    search = PEERS[peer](base)
    print(
        json.dumps(
            {
                "build_seconds": round(time.perf_counter() - started[0], 2),
                "build_cpu": round(time.process_time() - started[1], 2),
                "vectors": len(base),
                "index_bytes": memory() - before,
            }
        ),
        flush=True,
    )
    for line in sys.stdin:
        half, *numbers = line.split()
        middle = len(queries) // 2
        part = slice(middle, None) if half == "report" else slice(0, middle)
        asked, wanted = queries[part], truth[part]
        best = None
        for _ in range(3):
            started = (time.perf_counter(), time.process_time())
            found = search(asked, *numbers)
            took = (time.perf_counter() - started[0], time.process_time() - started[1])
            best = took if best is None else (min(best[0], took[0]), min(best[1], took[1]))
        hits = sum(len(np.intersect1d(one, other)) for one, other in zip(np.asarray(found), wanted))
        answer = {
            "recall": round(hits / wanted.size, 4),
            "qps": round(len(asked) / best[0]),
            "qps_cpu": round(len(asked) / best[1]),
        }
        print(json.dumps(answer), flush=True)


main()
