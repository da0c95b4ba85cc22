"""Verifies an exported audit log of Signalbox, from docs/audit.md alone, with nothing but Python's own library.

    python3 audit_verify.py EXPORT VERIFIER_KEY [CHECKPOINT]

Prints one line and exits with 0 when the log is intact, with 1 when it is not. With a checkpoint that was kept, the log must begin
with that one. A file that ends in `.proof.json` is a proof of inclusion or consistency, as the API gives it: it is checked instead.
"""
import base64
import hashlib
import json
import sys

# Ed25519 (RFC 8032), verification only, as the RFC writes it.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P != 0:
        x = x * ROOT % P
    if (x * x - xx) % P != 0 or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def point(data):
    number = int.from_bytes(data, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    x = recover_x(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(scalar, p):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, p)
        p, scalar = add(p, p), scalar >> 1
    return total


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def is_signature(public, message, signature):
    a, r = point(public), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = times(s, BASE), add(r, times(k, a))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


# Merkle trees (RFC 6962, section 2.1; checks of RFC 9162).
def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    def __init__(self, size=0, subtrees=()):
        self.size, self.stack = size, list(subtrees)

    def append(self, leaf):
        rest = self.size
        while rest & 1:
            leaf, rest = node(self.stack.pop(), leaf), rest >> 1
        self.stack.append(leaf)
        self.size += 1

    def root(self):
        if not self.stack:
            return hashlib.sha256(b"").digest()
        root = self.stack[-1]
        for left in reversed(self.stack[:-1]):
            root = node(left, root)
        return root


def is_included(leaf, index, size, proof, root):
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def is_consistent(first, first_root, second, second_root, proof):
    if first == second or first == 0:
        return not proof and (first_root == second_root if first else first <= second)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    hashes = list(proof) if fn else [first_root] + list(proof)
    if not hashes:
        return False
    fr = sr = hashes[0]
    for c in hashes[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root


# Signed notes (C2SP).
def key_id(name, public):
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def verifier_key(text):
    name, identifier, key = text.strip().split("+", 2)
    data = base64.b64decode(key)
    if data[0] != 1 or len(data) != 33 or key_id(name, data[1:]).hex() != identifier:
        raise ValueError("no verifier key")
    return name, data[1:]


def checkpoint(note):
    text, _, signatures = note.rpartition("\n\n")
    origin, size, root = (text + "\n").split("\n")[:3]
    return text + "\n", signatures.splitlines(), origin, int(size), base64.b64decode(root)


def is_signed(note, publics):
    text, signatures, origin, _, _ = checkpoint(note)
    for public in publics:
        for line in signatures:
            dash, name, value = line.split(" ")
            data = base64.b64decode(value)
            if dash == "\u2014" and name == origin and data[:4] == key_id(name, public):
                return is_signature(public, text.encode(), data[4:])
    return False


def believed(seal, trusted):
    """The key that was given, and those after it, each signed by the one before."""
    found = []
    for item in seal["keys"]:
        public = verifier_key(item["key"])[1]
        if found and item.get("signedByPrevious"):
            text = "signalbox audit key\n%s\n%s\n" % (seal["keyOrigin"], base64.b64encode(public).decode())
            if is_signature(found[-1], text.encode(), base64.b64decode(item["signedByPrevious"])):
                found.append(public)
                continue
        found = [public] if public == trusted else found[:0] if not found else found
    return found or [trusted]


class Damaged(Exception):
    pass


def verify(path, key, kept):
    name, trusted = verifier_key(key)
    pinned = checkpoint(kept) if kept else None
    tree, heads, seal, start = Tree(), {}, None, 0
    with open(path, "rb") as file:
        for raw in file:
            line = raw.rstrip(b"\n")
            if seal:
                raise Damaged("something follows the checkpoint")
            if line.startswith(b'{"checkpoint":'):
                seal = json.loads(line)
            elif line.startswith(b'{"start":') and tree.size == 0:
                found = json.loads(line)
                start = found["start"]
                tree = Tree(start, [base64.b64decode(h) for h in found["before"]])
            elif not line.startswith(b'{"order":'):
                if pinned and tree.size == pinned[3] and tree.root() != pinned[4]:
                    raise Damaged("the log is not the one of the checkpoint that was kept")
                take(line, tree, heads, start)
    if not seal:
        raise Damaged("truncated: no checkpoint after entry %d" % (tree.size - 1))
    _, _, origin, size, root = checkpoint(seal["checkpoint"])
    if origin != name or not is_signed(seal["checkpoint"], believed(seal, trusted)):
        raise Damaged("the checkpoint is not signed by this key")
    proof = [base64.b64decode(h) for h in seal["consistency"]]
    if tree.size != seal["end"] or not is_consistent(tree.size, tree.root(), size, root, proof):
        raise Damaged("the entries do not come to the root that was signed")
    if pinned and (pinned[3] > tree.size or (pinned[3] == tree.size and pinned[4] != tree.root())):
        raise Damaged("the log is not the one of the checkpoint that was kept")
    return "intact: %d entries of %s" % (tree.size - start, origin)


def take(line, tree, heads, start):
    try:
        entry = json.loads(line)
        chain, number, previous = entry["chain"], entry["n"], entry["prev"]
    except (ValueError, KeyError, TypeError):
        raise Damaged("entry %d is none" % tree.size)
    last, head = heads.get(chain, (0, "0" * 64))
    known = chain in heads or start == 0 or number == 1
    if known and (number != last + 1 or previous != head):
        raise Damaged("entry %d does not follow the one before it in its chain" % tree.size)
    leaf = hashlib.sha256(b"\x00" + line).digest()
    heads[chain] = (number, leaf.hex())
    tree.append(leaf)


def verify_proof(path, key):
    name, trusted = verifier_key(key)
    given = json.load(open(path))
    hashes = [base64.b64decode(h) for h in given.get("hashes", [])]
    if "firstSize" in given:
        first, second = int(given["firstSize"]), int(given["secondSize"])
        roots = [base64.b64decode(given[k]) for k in ("firstRoot", "secondRoot")]
        good = is_consistent(first, roots[0], second, roots[1], hashes)
    else:
        note = given["checkpoint"]["note"]
        _, _, origin, size, root = checkpoint(note)
        good = origin == name and is_signed(note, [trusted])
        good = good and is_included(base64.b64decode(given["leafHash"]), int(given.get("index", 0)), size, hashes, root)
    if not good:
        raise Damaged("the proof is wrong")
    return "proven"


if __name__ == "__main__":
    try:
        if sys.argv[1].endswith(".proof.json"):
            print(verify_proof(sys.argv[1], sys.argv[2]))
        else:
            kept_note = open(sys.argv[3], encoding="utf-8").read() if len(sys.argv) > 3 else None
            print(verify(sys.argv[1], sys.argv[2], kept_note))
    except Damaged as damage:
        print(damage)
        sys.exit(1)
