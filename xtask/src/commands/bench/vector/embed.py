# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the two data sets of the vector benchmark, from real embeddings.

    embed.py glove   <words.json>      <directory> <texts, unused>
    embed.py minilm  <model directory> <directory> <package descriptions: Translation-en>

A directory then holds base.f32 and query.f32 (raw little-endian rows), truth.i32 (the 100 nearest rows of the base by
cosine, computed exactly) and meta.json. The queries are held out: they are not in the base.
"""

import json
import pathlib
import sys

import numpy as np

QUERIES = 2000
TRUTH = 100


def write(directory, rows, limit):
    """Shuffles with a fixed seed, drops repeated rows, splits, and finds the truth."""
    rows = np.unique(np.ascontiguousarray(rows, dtype="<f4"), axis=0)
    rows = rows[np.linalg.norm(rows, axis=1) > 0]
    rows = rows[np.random.default_rng(7).permutation(len(rows))][: limit + QUERIES]
    query, base = rows[:QUERIES], rows[QUERIES:]
    unit_base = base / np.linalg.norm(base, axis=1, keepdims=True)
    unit_query = query / np.linalg.norm(query, axis=1, keepdims=True)
    truth = np.empty((QUERIES, TRUTH), dtype="<i4")
    for start in range(0, QUERIES, 100):
        score = unit_query[start : start + 100] @ unit_base.T
        nearest = np.argpartition(-score, TRUTH, axis=1)[:, :TRUTH]
        order = np.argsort(-np.take_along_axis(score, nearest, 1), axis=1, kind="stable")
        truth[start : start + 100] = np.take_along_axis(nearest, order, 1)
    out = pathlib.Path(directory)
    base.tofile(out / "base.f32")
    query.tofile(out / "query.f32")
    truth.tofile(out / "truth.i32")
    (out / "meta.json").write_text(
        json.dumps({"dim": base.shape[1], "base": len(base), "queries": QUERIES, "truth": TRUTH})
    )
    print(f"{len(base)} rows of {base.shape[1]}")


def glove(source):
    """Word vectors; each row of the file ends with its norm and its index."""
    vectors = json.loads(pathlib.Path(source).read_text())["vectors"]
    return np.array([row[:100] for row in vectors.values()], dtype=np.float32)


def graph(model):
    """The model's encoder as an ONNX graph: token ids and a mask in, mean-pooled sentence vectors out."""
    from onnx import TensorProto, checker, helper, numpy_helper
    from safetensors.numpy import load_file

    weights = load_file(f"{model}/model.safetensors")
    config = json.loads(pathlib.Path(f"{model}/config.json").read_text())
    heads, width = config["num_attention_heads"], config["hidden_size"]
    depth = width // heads
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind, inputs, **attributes):
        name = f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def linear(x, name):
        weight = constant(f"{name}.w", weights[f"{name}.weight"].T)
        return node("Add", [node("MatMul", [x, weight]), constant(f"{name}.b", weights[f"{name}.bias"])])

    def norm(x, name):
        scale = constant(f"{name}.scale", weights[f"{name}.weight"])
        bias = constant(f"{name}.bias", weights[f"{name}.bias"])
        return node("LayerNormalization", [x, scale, bias], axis=-1, epsilon=config["layer_norm_eps"])

    split = constant("split", np.array([0, 0, heads, depth], dtype=np.int64))
    join = constant("join", np.array([0, 0, width], dtype=np.int64))

    def headed(x, order):
        return node("Transpose", [node("Reshape", [x, split])], perm=order)

    words = constant("words", weights["embeddings.word_embeddings.weight"])
    kind = weights["embeddings.token_type_embeddings.weight"][0]
    places = constant("places", weights["embeddings.position_embeddings.weight"] + kind)
    x = node("Add", [node("Gather", [words, "ids"]), node("Gather", [places, "positions"])])
    x = norm(x, "embeddings.LayerNorm")
    scale = constant("scale", np.array(1 / np.sqrt(depth), dtype=np.float32))
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        q = headed(linear(x, f"{at}.attention.self.query"), [0, 2, 1, 3])
        k = headed(linear(x, f"{at}.attention.self.key"), [0, 2, 3, 1])
        v = headed(linear(x, f"{at}.attention.self.value"), [0, 2, 1, 3])
        score = node("Add", [node("Mul", [node("MatMul", [q, k]), scale]), "hide"])
        mixed = node("MatMul", [node("Softmax", [score], axis=-1), v])
        mixed = node("Reshape", [node("Transpose", [mixed], perm=[0, 2, 1, 3]), join])
        x = norm(node("Add", [linear(mixed, f"{at}.attention.output.dense"), x]), f"{at}.attention.output.LayerNorm")
        wide = node("Gelu", [linear(x, f"{at}.intermediate.dense")])
        x = norm(node("Add", [linear(wide, f"{at}.output.dense"), x]), f"{at}.output.LayerNorm")
    axis = constant("axis", np.array([1], dtype=np.int64))
    nodes.append(helper.make_node("ReduceSum", [node("Mul", [x, "mean"]), axis], ["out"], keepdims=0))
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"]),
        helper.make_tensor_value_info("positions", TensorProto.INT64, [1, "t"]),
        helper.make_tensor_value_info("hide", TensorProto.FLOAT, ["n", 1, 1, "t"]),
        helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", "t", 1]),
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", width])]
    made = helper.make_model(
        helper.make_graph(nodes, "encoder", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    checker.check_model(made)
    return made.SerializeToString()


def passages(lines):
    """Every package's short description and each paragraph of its long one, each text once, shuffled."""
    found, text = {}, []
    for line in lines:
        start = line.startswith("Description-en:")
        inside = line.startswith(" ") and line.strip() != "."
        if not inside and text:
            found[" ".join(text)] = None
            text = []
        if start:
            found[line.partition(":")[2].strip()] = None
        elif inside:
            text.append(line.strip())
    texts = [text for text in found if len(text) >= 20]
    return [texts[index] for index in np.random.default_rng(3).permutation(len(texts))]


def minilm(model, descriptions):
    """Sentence vectors of package descriptions."""
    import onnxruntime
    from tokenizers import Tokenizer

    with open(descriptions, encoding="utf-8") as lines:
        texts = passages(lines)[: 100_000 + 2 * QUERIES]
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(96)
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
    session = onnxruntime.InferenceSession(graph(model), providers=["CPUExecutionProvider"])
    rows = np.empty((len(texts), 384), dtype=np.float32)
    for start in range(0, len(order), 64):
        batch = order[start : start + 64]
        longest = len(tokens[batch[-1]])
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        there = np.zeros((len(batch), longest), dtype=np.float32)
        for row, index in enumerate(batch):
            ids[row, : len(tokens[index])] = tokens[index]
            there[row, : len(tokens[index])] = 1
        feed = {
            "ids": ids,
            "positions": np.arange(longest, dtype=np.int64)[None],
            "hide": ((1 - there) * -1e9)[:, None, None, :],
            "mean": (there / there.sum(1, keepdims=True))[:, :, None],
        }
        (out,) = session.run(None, feed)
        rows[batch] = out / np.linalg.norm(out, axis=1, keepdims=True)
        if start % 6400 == 0:
            print(f"{start} of {len(order)}", file=sys.stderr, flush=True)
    return rows


def main():
    what, source, directory, texts = sys.argv[1:]
    if what == "glove":
        write(directory, glove(source), 1_000_000)
    else:
        write(directory, minilm(source, texts), 100_000)


main()
