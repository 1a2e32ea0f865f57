#!/usr/bin/env python3
"""Reads a ledger without the program that wrote it, and computes its epsilon with dp-accounting.

    pip install dp-accounting cryptography
    python tools/ledger_reader.py RUN_DIR/ledger

The format is in docs/ledger.md. Checked are the canonical encoding, the hash chain, and (where the package `cryptography` is
there) the signatures. The exit code is 0 if everything holds and no claim is below the recomputed epsilon by more than 1 percent.
"""

import hashlib
import json
import sys

CONTEXT = b"umbel-ledger-v1\n"


def read(path):
    """The records of a ledger, and its head. Raises ValueError with the record that is wrong."""
    text = open(path, "rb").read()
    lines = text[: text.rfind(b"\n") + 1].split(b"\n")[:-1]
    previous, key, records = "0" * 64, None, []
    for sequence, line in enumerate(lines):
        parsed = json.loads(line)
        record = parsed["record"]
        if set(parsed) != {"record", "signature"} or set(record) != {"body", "kind", "previous", "sequence"}:
            raise ValueError(f"record {sequence}: unexpected fields")
        # Numbers have several texts in Python and Rust, so the bytes are cut out instead of encoded again.
        signed = line[len(b'{"record":') : line.rindex(b',"signature":"')]
        if line != b'{"record":' + signed + b',"signature":"' + parsed["signature"].encode() + b'"}':
            raise ValueError(f"record {sequence}: not canonical")
        if record["sequence"] != sequence or record["previous"] != previous:
            raise ValueError(f"record {sequence}: the chain is broken")
        if sequence == 0:
            if record["kind"] != "header" or record["body"]["version"] != 1:
                raise ValueError("record 0: expected a header of version 1")
            key = verifier(bytes.fromhex(record["body"]["public_key"]))
        if key is not None:
            key(bytes.fromhex(parsed["signature"]), CONTEXT + signed, sequence)
        previous = hashlib.sha256(line).hexdigest()
        records.append(record)
    if not records:
        raise ValueError("record 0: an empty ledger")
    return records, previous, key is not None


def verifier(public_key):
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return None
    key = Ed25519PublicKey.from_public_bytes(public_key)

    def verify(signature, message, sequence):
        try:
            key.verify(signature, message)
        except InvalidSignature:
            raise ValueError(f"record {sequence}: the signature is not the header key's") from None

    return verify


def to_event(event):
    """An event of the ledger as one of dp-accounting's."""
    import dp_accounting as dp

    kind = event["kind"]
    if kind == "composed":
        return dp.ComposedDpEvent([to_event(inner) for inner in event["events"]])
    if kind == "gaussian":
        return dp.GaussianDpEvent(event["noise_multiplier"])
    if kind == "laplace":
        return dp.LaplaceDpEvent(event["noise_multiplier"])
    if kind == "matrix-mechanism":
        return dp.GaussianDpEvent(event["noise_multiplier"] / event["sensitivity"])
    if kind == "non-private":
        return dp.NonPrivateDpEvent()
    if kind == "poisson-sampled":
        return dp.PoissonSampledDpEvent(event["sampling_rate"], to_event(event["event"]))
    if kind == "repeated":
        return dp.SelfComposedDpEvent(to_event(event["event"]), event["count"])
    if kind == "zero-concentrated":
        return dp.ZCDpEvent(event["rho"])
    raise ValueError(f"this reader has no event of dp-accounting for `{kind}`")


def epsilons(header, charges):
    """Epsilon of so many charges, by dp-accounting's two accountants."""
    from dp_accounting import NeighboringRelation as Relation
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    relation = {
        "add-remove": Relation.ADD_OR_REMOVE_ONE,
        "replace-by-zero": Relation.REPLACE_SPECIAL,
        "replace-one": Relation.REPLACE_ONE,
    }[header["neighbors"]]
    charges = min(charges, header.get("most_charges") or charges)
    event, delta = to_event(header["round_event"]), header["accounted_delta"]
    return {
        "pld": PLDAccountant(relation).compose(event, charges).get_epsilon(delta) if charges else 0.0,
        "rdp": RdpAccountant(neighboring_relation=relation).compose(event, charges).get_epsilon(delta) if charges else 0.0,
    }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        records, head, signed = read(sys.argv[1])
    except (OSError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    header = records[0]["body"]
    bodies = [record["body"] for record in records if record["kind"] == "charge"]
    if any(body["event"] != header["round_event"] for body in bodies):
        sys.exit("a charge has another event than the plan")
    print(f"{header['run']}: {len(records)} records, {len(bodies)} rounds charged, head {head}")
    print(f"signatures {'hold' if signed else 'NOT CHECKED: the package `cryptography` is missing'}")
    failed = False
    for charges in sorted({1, len(bodies) // 2, len(bodies)} - {0}):
        if charges > len(bodies):
            continue
        claim = bodies[charges - 1]["claim"]
        recomputed = epsilons(header, charges)
        claimed = float("inf") if claim["epsilon"] is None else claim["epsilon"]
        wrong = claimed < 0.99 * recomputed[claim["accountant"]]
        failed |= wrong
        print(
            f"after {charges} charges at delta {header['delta']:g}: claimed {claimed:.6f} ({claim['accountant']}), "
            f"dp-accounting pld {recomputed['pld']:.6f}, rdp {recomputed['rdp']:.6f}{'  TOO SMALL' if wrong else ''}"
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
