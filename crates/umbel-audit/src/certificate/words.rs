//! A certificate's words: what the terms mean, what the guarantee rests on, how to check it.

use umbel_accounting::ledger::Header;
use umbel_experiment::report::certificate::{Assumption, Fact};

use crate::{Facts, LEVEL, Signer};

pub(super) fn signer(facts: &Facts) -> String {
    let fingerprint = &facts.fingerprint;
    match facts.signer {
        Signer::Key => format!("it is signed by the key that was asked for, {fingerprint}"),
        Signer::Receipts => format!(
            "its signer and history are those of {} receipts that clients hold: {fingerprint}",
            facts.receipts
        ),
        Signer::NotPinned => format!(
            "its signer is not pinned: nobody outside the run directory vouches for the key {fingerprint}"
        ),
    }
}

pub(super) fn unit(word: &str) -> String {
    match word {
        "client" => "each client, for all of its data together".to_owned(),
        "example" => "each single example of each client".to_owned(),
        other => other.to_owned(),
    }
}

pub(super) fn neighbors(word: &str) -> String {
    match word {
        "add-remove" => "add-remove: the unit took part, or it was never there".to_owned(),
        "replace-by-zero" => "replace-by-zero: the unit counts, or it counts as zero".to_owned(),
        "replace-one" => "replace-one: the unit is exchanged for any other".to_owned(),
        other => other.to_owned(),
    }
}

pub(super) fn trust(word: &str) -> String {
    match word {
        "central" => "central: everyone who sees the released models, but not the server, which sees every update and adds the noise"
            .to_owned(),
        "distributed" => "distributed: everyone, the server included, as long as the stated share of clients is honest".to_owned(),
        "local" => "local: everyone; each client adds its own noise and trusts nobody".to_owned(),
        other => other.to_owned(),
    }
}

pub(super) fn mechanism(header: &Header) -> Vec<Fact> {
    let fact = |name: &str, value: String| Fact {
        name: name.to_owned(),
        value,
    };
    let of_shares = header
        .secure_aggregation
        .as_ref()
        .and_then(|facts| facts.noise_multiplier);
    let noise = crate::experiment::noise_multiplier(&header.round_event)
        .or(of_shares)
        .map_or_else(
            || format!("{:?}", header.round_event),
            |multiplier| {
                format!(
                    "{} Gaussian, standard deviation {multiplier} × clip norm on each of {} parameters of the sum{}",
                    header.noise,
                    header.dimension,
                    if of_shares.is_some() {
                        ", from the fewest honest clients together"
                    } else {
                        ""
                    }
                )
            },
        );
    let aggregation = header.secure_aggregation.as_ref().map(|facts| {
        fact(
            "Secure aggregation",
            format!(
                "{}: sums of {} to {} clients modulo 2^{}, of whom at most {} may help the server",
                facts.protocol, facts.survivors_min, facts.clients_max, facts.modulus_bits, facts.colluding
            ),
        )
    });
    let mut facts = vec![
        fact("Rounds", format!("{} planned", header.rounds)),
        fact(
            "Who takes part",
            format!(
                "{}: of {} declared units about {} a round (rate {:.6})",
                header.sampling, header.population, header.cohort, header.sampling_rate
            ),
        ),
        fact(
            "Clip norm",
            format!("{}: the whole update as one vector", header.clip_norm),
        ),
        fact("Noise", noise),
        fact("Divisor", format!("{}, public and constant", header.cohort)),
        fact("Written by", header.software.clone()),
    ];
    facts.extend(aggregation);
    facts
}

pub(super) fn assumptions(header: &Header, facts: &Facts) -> Vec<Assumption> {
    let assume = |what: &str, vouched_by: String| Assumption {
        what: what.to_owned(),
        vouched_by,
    };
    let operator = || "whoever runs the server".to_owned();
    let noise = if header.simulated {
        "nobody: in a simulation coins and noise come from the seed, and whoever knows it can take the noise off".to_owned()
    } else if header.trust == "local" || header.trust == "distributed" {
        "each client for its own".to_owned()
    } else {
        "whoever runs the server; the ledger does not prove it, an attack can refute it".to_owned()
    };
    let mut list = vec![assume(
        "The noise was drawn as recorded, from coins that nobody else knows.",
        noise,
    )];
    if let Some(secure) = &header.secure_aggregation {
        list.push(assume(
            "No more clients of a sum help the server than were assumed.",
            format!(
                "whoever certifies clients: at most {} of {} or more; every client checks the number of survivors and the \
                 confirmations of the others",
                secure.colluding, secure.survivors_min
            ),
        ));
        if secure.protocol == "ideal" {
            list.push(assume(
                "The server learnt nothing but sums.",
                "nobody: this simulation left the cryptography away".to_owned(),
            ));
        }
    } else if header.sampling == "poisson" {
        let tested = facts.cohorts.map_or_else(
            || "cohort sizes were not opened for a test".to_owned(),
            |test| {
                format!(
                    "the sizes of {} cohorts were tested at level {LEVEL:e}: p = {:.3}",
                    test.rounds, test.p_value
                )
            },
        );
        list.push(assume(
            "Who takes part is decided by independent coins and stays secret.",
            format!("{}; {tested}", operator()),
        ));
    }
    list.extend([
        assume(
            "Each unit moves the sum by at most the clip norm.",
            if header.trust == "local" || header.secure_aggregation.is_some() {
                "each client for its own update".to_owned()
            } else {
                "the server, which checks each report's norm in exact integers".to_owned()
            },
        ),
        assume(
            "One person is one unit: nobody's data are held by several clients.",
            "whoever enrols the clients".to_owned(),
        ),
        assume(
            "The number of units was declared without looking at who is there.",
            operator(),
        ),
        assume(
            "Settings were not chosen by trying them on these data; what trying costs is not in this ε.",
            operator(),
        ),
        assume(
            "The theorems and the program that applies them are right.",
            "published proofs, two accountants here, and any other program that reads the ledger".to_owned(),
        ),
        assume(
            "The ledger is the one that was written during the run.",
            match facts.signer {
                Signer::Key => "whoever gave the key's fingerprint".to_owned(),
                Signer::Receipts => "the clients who kept the receipts".to_owned(),
                Signer::NotPinned => "nobody: no key and no receipts were given".to_owned(),
            },
        ),
    ]);
    list
}

pub(super) fn how_to_check(facts: &Facts) -> Vec<String> {
    vec![
        format!(
            "umbel audit verify RUN_DIR --key {} checks chain, signatures, order, every claim, model and summary, offline.",
            facts.fingerprint
        ),
        "umbel audit verify RUN_DIR --receipts FILE compares the history with the signed heads that clients hold.".to_owned(),
        "tools/ledger_reader.py RUN_DIR/ledger reads the ledger without this program and computes ε with dp-accounting.".to_owned(),
        "docs/ledger.md has the format, and what cannot be found from a ledger.".to_owned(),
    ]
}
