"""An independent implementation of one attempt, from which `vectors.json` is made.

    python3 vectors.py > vectors.json        needs the package `cryptography`

It follows the description in docs/secure-aggregation.md and shares nothing with the Rust code. Written for clarity, not speed.
"""

import hashlib
import json
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

P = 2**61 - 1
RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def sha(label, *parts):
    return hashlib.sha256(label.encode() + b"\0" + b"".join(parts)).digest()


def hkdf(salt, secret, label, *info):
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=label.encode() + b"\0" + b"".join(info))
    return kdf.derive(secret)


def keystream(key, length):
    return Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(length))


class Stream:
    """The keystream under a key, taken from the front."""

    def __init__(self, key):
        self.bytes, self.at = keystream(key, 1 << 20), 0

    def take(self, n):
        self.at += n
        return self.bytes[self.at - n : self.at]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]


class Signer:
    def __init__(self, secret):
        self.key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self.key.public_key().public_bytes(*RAW)

    def sign(self, label, *parts):
        return self.key.sign(label.encode() + b"\0" + b"".join(parts))


def u32(x):
    return struct.pack("<I", x)


def u64(x):
    return struct.pack("<Q", x)


def x25519(secret, public):
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def x25519_public(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(*RAW)


def share(secret, t, n, stream):
    """n shares of five limbs each."""
    number = int.from_bytes(secret, "little")
    shares = [b""] * n
    for place in range(5):
        polynomial = [number >> 52 * place & (2**52 - 1)]
        while len(polynomial) < t:
            candidate = stream.u64() >> 3
            if candidate < P:
                polynomial.append(candidate)
        for x in range(1, n + 1):
            value = sum(c * pow(x, e, P) for e, c in enumerate(polynomial)) % P
            shares[x - 1] += u64(value)
    return shares


def merkle(level):
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [sha("umbel/sa1/node", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0]


def merkle_proof(level, place):
    proof = b""
    while len(level) > 1:
        if place ^ 1 < len(level):
            proof += level[place ^ 1]
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [sha("umbel/sa1/node", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
        place //= 2
    return proof


def ring(root, n):
    stream, order = Stream(sha("umbel/sa1/graph", root)), list(range(n))
    for i in range(n - 1, 0, -1):
        while (word := stream.u64()) >= 2**64 - 1 - (2**64 - 1) % (i + 1):
            pass
        j = word % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def bitmap(n, members):
    return sum(1 << i for i in members).to_bytes((n + 7) // 8, "little")


def pack(values, bits):
    number = sum((value % 2**bits) << (bits * i) for i, value in enumerate(values))
    return number.to_bytes((len(values) * bits + 7) // 8, "little")


def attempt(n, bits, dimension, dropped):
    """All messages of a complete graph of n clients with one colluding; `dropped` sends no input."""
    authority, server, federation = Signer(bytes([4] * 32)), Signer(bytes([5] * 32)), bytes([1] * 32)
    t = (n + 1) // 2 + 1
    survivors_min = (n + 1) // 2 + 1
    config = b"\1" + federation + u64(7) + u32(0) + bytes([2] * 32) + bytes([3] * 32) + u32(dimension) + u32(bits)
    config += u32(3) + u32(n) + u32(survivors_min) + u32(1) + u32(0) + u32(100) + u32(1) + u64(0) + u64(0) + u64(60000)
    ch = sha("umbel/sa1/config", config)
    messages = {"offer": [config + server.sign("umbel/sa1/offer", ch)]}

    ids = [10 * i + 3 for i in range(n)]
    identities = [Signer(bytes([i] + [6] * 31)) for i in range(n)]
    streams = [Stream(bytes([i]) + u64(7) + u32(0) + bytes([8] * 19)) for i in range(n)]
    own, pair, secret = zip(*[(s.take(32), s.take(32), s.take(32)) for s in streams])
    mask_secret = [hkdf(ch, pair[i], "umbel/sa1/sk", u64(ids[i])) for i in range(n)]
    adverts = []
    for i in range(n):
        keys = x25519_public(mask_secret[i]) + x25519_public(secret[i])
        certificate = authority.sign("umbel/sa1/certificate", federation, u64(ids[i]), identities[i].public)
        head = u64(ids[i]) + identities[i].public
        adverts.append(head + certificate + keys + identities[i].sign("umbel/sa1/advertisement", ch, head, keys))
    messages["advertisement"] = [b"\2" + a for a in adverts]
    messages["roster"] = [b"\3" + b"".join(adverts)]
    root = sha("umbel/sa1/roster", ch, messages["roster"][0])
    mask_key = [a[104:136] for a in adverts]
    share_key = [a[136:168] for a in adverts]

    dealt, leaves, own_commitments, deal_signatures = [], [], [], []
    messages["shares"] = []
    for i in range(n):
        holders = [j for j in range(n) if j != i]
        shares = [share(own[i], t, n - 1, streams[i]), share(pair[i], t, n - 1, streams[i])]
        dealt.append({})
        for place, j in enumerate(holders):
            openings = [shares[0][place] + streams[i].take(32), shares[1][place] + streams[i].take(32)]
            link = u64(ids[i]) + u64(ids[j])
            key = hkdf(root, x25519(secret[i], share_key[j]), "umbel/sa1/seal", ch, link)
            sealed = ChaCha20Poly1305(key).encrypt(bytes(12), b"".join(openings), ch + root + link)
            commitments = [sha("umbel/sa1/share", ch, link, bytes([kind]), openings[kind - 1]) for kind in (1, 2)]
            dealt[i][j] = (sealed + b"".join(commitments), openings)
        leaves.append([sha("umbel/sa1/leaf", u64(ids[j]), dealt[i][j][0]) for j in holders])
        own_commitments.append(sha("umbel/sa1/commit", ch, u64(ids[i]), b"\1", own[i]))
        signature = identities[i].sign(
            "umbel/sa1/shares", ch, root, u64(ids[i]), own_commitments[i], merkle(leaves[i])
        )
        deal_signatures.append(signature)
        body = b"".join(dealt[i][j][0] for j in holders)
        messages["shares"].append(b"\4" + u64(ids[i]) + own_commitments[i] + body + signature)

    everybody = list(range(n))
    u1 = bitmap(n, everybody)
    messages["mask_request"] = []
    for i in range(n):
        message = b"\5" + u1
        for j in [j for j in everybody if j != i]:
            position = i if i < j else i - 1
            proof = merkle_proof(leaves[j], position)
            message += dealt[j][i][0] + own_commitments[j] + deal_signatures[j] + proof
        messages["mask_request"].append(message)

    width = 2 if bits <= 16 else 4 if bits <= 32 else 8

    def mask(key):
        stream = keystream(key, width * dimension)
        return [int.from_bytes(stream[k : k + width], "little") for k in range(0, len(stream), width)]

    sharers = sha("umbel/sa1/sharers", ch, root, u1)
    inputs = [[(1 if i == j else 0) - 1000 for j in range(dimension)] for i in range(n)]
    headers = []
    messages["masked_input"] = []
    for i in [i for i in everybody if i != dropped]:
        y = [x + m for x, m in zip(inputs[i], mask(hkdf(root, own[i], "umbel/sa1/own", ch, u64(ids[i]))))]
        for j in [j for j in everybody if j != i]:
            low, high = min(i, j), max(i, j)
            agreed = x25519(mask_secret[i], mask_key[j])
            m = mask(hkdf(root, agreed, "umbel/sa1/mask", ch, u64(ids[low]), u64(ids[high])))
            y = [a + b if i < j else a - b for a, b in zip(y, m)]
        packed = pack(y, bits)
        digest = hashlib.sha256(packed).digest()
        signature = identities[i].sign("umbel/sa1/input", ch, root, u64(ids[i]), sharers, digest)
        headers.append((i, sharers + digest + signature))
        messages["masked_input"].append(b"\6" + u64(ids[i]) + sharers + digest + signature + packed)

    alive = [i for i in everybody if i != dropped]
    u2 = bitmap(n, alive)
    view = sha("umbel/sa1/view", ch, root, u1, u2)
    messages["survivors"] = [b"\7" + u2 + b"".join(h for j, h in headers if j != i) for i in alive]
    confirmations = {i: identities[i].sign("umbel/sa1/confirmation", u64(ids[i]), view) for i in alive}
    messages["confirmation"] = [b"\x08" + u64(ids[i]) + confirmations[i] for i in alive]
    needed = (n + 1) // 2 + 1
    charge = bytes([9] * 32)
    request = b"\x09" + charge + server.sign("umbel/sa1/charge", view, charge) + u32(needed)
    request += b"".join(u32(i) + confirmations[i] for i in alive[:needed])
    messages["unmask_request"] = [request]
    messages["opened_shares"] = []
    for i in alive:
        body = b"".join(b"\1" + dealt[j][i][1][0 if j in alive else 1] for j in everybody if j != i)
        signature = identities[i].sign("umbel/sa1/opened", view, u64(ids[i]), hashlib.sha256(body).digest())
        messages["opened_shares"].append(b"\x0a" + u64(ids[i]) + body + signature)

    total = [sum(inputs[i][j] for i in alive) for j in range(dimension)]
    centered = [(v + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) for v in total]
    return {
        "clients": n,
        "bits": bits,
        "dimension": dimension,
        "dropped": dropped,
        "ring": ring(root, n),
        "messages": {name: [hashlib.sha256(m).hexdigest() for m in list_] for name, list_ in messages.items()},
        "sum": centered,
    }


if __name__ == "__main__":
    print(json.dumps([attempt(6, 20, 33, 2), attempt(7, 13, 10, 6), attempt(4, 40, 5, None)], indent=1))
