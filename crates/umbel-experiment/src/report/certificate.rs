//! The privacy certificate as a page: what was promised, what was spent, who vouches for what, and how to check it.

use serde::Serialize;

use super::{
    chart::{Base, Chart, Reference, Series, Unit},
    markup::Markup,
    number,
    page::document,
};

/// What a run promised and spent, for somebody who was not there. As JSON it is the same as on the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Certificate {
    /// Name of the run.
    pub run: String,
    /// What the verification found.
    pub verdict: Verdict,
    /// What was promised.
    pub promise: Promise,
    /// ε by each accountant, from the recorded events.
    pub accountants: Vec<Accounted>,
    /// What an attacker can do at best.
    pub attacker: Attacker,
    /// What was spent, round by round.
    pub rounds: Vec<SpentRound>,
    /// How the guarantee was made.
    pub mechanism: Vec<Fact>,
    /// What must be true besides, and who vouches for it.
    pub assumptions: Vec<Assumption>,
    /// The lower bound that an attack on the pipeline measured, if there was one.
    pub measured: Option<Measured>,
    /// What no ε here covers.
    pub not_covered: Vec<String>,
    /// This run and others on the same population; empty if there are no others.
    pub population: Vec<PopulationRun>,
    /// What all of them together cost: ε and δ add up.
    pub population_total: Option<PopulationTotal>,
    /// What identifies the run and its files.
    pub hashes: Vec<Fact>,
    /// How to check it oneself.
    pub how_to_check: Vec<String>,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether nothing is wrong.
    pub consistent: bool,
    /// How the signer is known, in words.
    pub signer: String,
    /// What is wrong, with its place.
    pub faults: Vec<String>,
    /// What could not be checked.
    pub remarks: Vec<String>,
}

/// What was promised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Promise {
    /// Upper bound on what was spent; null means infinite: not private.
    pub epsilon: Option<f64>,
    /// Upper bound for all planned rounds, which holds however their number was chosen.
    pub epsilon_planned: Option<f64>,
    /// The most that might be spent, if there was a limit.
    pub epsilon_budget: Option<f64>,
    /// δ of all of them.
    pub delta: f64,
    /// Privacy unit, in words.
    pub unit: String,
    /// Neighbouring relation, in words.
    pub neighbors: String,
    /// Trust model, in words.
    pub trust: String,
    /// Whether coins and noise come from a seed.
    pub simulated: bool,
}

/// One accountant's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accounted {
    /// Its name and method.
    pub accountant: String,
    /// The program that computed it.
    pub version: String,
    /// Upper bound; null means infinite or not computed.
    pub epsilon: Option<f64>,
    /// Lower bound, where there is one.
    pub epsilon_lower: Option<f64>,
}

/// What somebody can do at best who knows everything but whether one unit was there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attacker {
    /// Largest difference of true- and false-positive rate; null if nothing bounds it.
    pub advantage: Option<f64>,
    /// Best share of right guesses by base rate.
    pub success: Vec<Success>,
    /// Lower bound on the false-negative rate at each false-positive rate.
    pub trade_off: Vec<ErrorRates>,
}

/// The best share of right guesses at one base rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Success {
    /// Chance beforehand that the unit was there.
    pub base_rate: f64,
    /// Share of right guesses with everything released.
    pub best: f64,
    /// Share of right guesses without.
    pub blind: f64,
}

/// One point of the trade-off curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ErrorRates {
    /// False-positive rate.
    pub false_positive: f64,
    /// The least false-negative rate.
    pub false_negative: f64,
}

/// One round's claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpentRound {
    /// The round.
    pub round: u64,
    /// ε of all rounds up to it; null means infinite.
    pub epsilon: Option<f64>,
    /// Whether its model was released; a charge stays where it was not.
    pub released: bool,
    /// Position of its charge in the ledger.
    pub record: u64,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Of what.
    pub name: String,
    /// What.
    pub value: String,
}

/// Something the guarantee rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assumption {
    /// What must be true.
    pub what: String,
    /// Who vouches for it.
    pub vouched_by: String,
}

/// A lower bound from an attack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// ε that was claimed of what was attacked.
    pub epsilon: Option<f64>,
    /// What the attack shows at least.
    pub epsilon_lower_bound: f64,
    /// With which confidence.
    pub confidence: f64,
    /// Canaries that were planted.
    pub canaries: u64,
    /// Names of the methods, the one that was chosen beforehand first.
    pub methods: Vec<String>,
}

/// One of several runs on a population.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PopulationRun {
    /// Name of the run.
    pub run: String,
    /// Short name of its signer's key.
    pub fingerprint: String,
    /// ε of it; null means infinite.
    pub epsilon: Option<f64>,
    /// δ of it.
    pub delta: f64,
    /// Whether its own ledger was verified for this certificate.
    pub verified: bool,
}

/// The sum over runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PopulationTotal {
    /// Σ ε; null means infinite.
    pub epsilon: Option<f64>,
    /// Σ δ.
    pub delta: f64,
}

/// Renders a certificate as one HTML page that is complete in itself, as [`report::render`](super::render) does a report.
pub fn render(certificate: &Certificate) -> String {
    document(&format!("Privacy certificate: {}", certificate.run), |page| {
        head(page, certificate);
        promise(page, certificate);
        attacker(page, certificate);
        spent(page, certificate);
        assumptions(page, certificate);
        measured(page, certificate);
        list(page, "What is not covered", &certificate.not_covered);
        population(page, certificate);
        checking(page, certificate);
    })
}

fn head(page: &mut Markup, certificate: &Certificate) {
    let (verdict, promised) = (&certificate.verdict, &certificate.promise);
    page.leaf("p", &[("class", "eyebrow")], "Privacy certificate");
    page.leaf("h1", &[], &certificate.run);
    if verdict.consistent {
        let signer = format!("The ledger is consistent; {}.", verdict.signer);
        page.leaf("p", &[("class", "status")], &signer);
    } else {
        page.element("div", &[("class", "banner danger")], |page| {
            page.leaf("strong", &[], "NOT CONSISTENT");
            page.leaf(
                "p",
                &[],
                "What follows is what the records say. It must not be relied on.",
            );
            for fault in &verdict.faults {
                page.leaf("p", &[], fault);
            }
        });
    }
    if promised.epsilon.is_none() {
        page.element("div", &[("class", "banner danger")], |page| {
            page.leaf("strong", &[], "NOT PRIVATE");
            page.leaf(
                "p",
                &[],
                "No finite ε holds for this run: nothing is promised to anybody.",
            );
        });
    }
    if let (Some(claimed), Some(measured)) = (promised.epsilon, &certificate.measured)
        && measured.epsilon_lower_bound > claimed
    {
        page.element("div", &[("class", "banner danger")], |page| {
            page.leaf("strong", &[], "MORE LEAKS THAN IS CLAIMED");
            let why = format!(
                "The attack shows ε of at least {} with confidence {}, and the ledger claims at most {}.",
                number::epsilon_lower(measured.epsilon_lower_bound),
                number::exact(measured.confidence),
                number::epsilon_upper(claimed)
            );
            page.leaf("p", &[], &why);
        });
    }
    page.element("div", &[("class", "tiles")], |page| {
        let measured = certificate.measured.as_ref();
        let tiles = [
            (
                "ε, certified upper bound",
                promised.epsilon.map(number::epsilon_upper),
            ),
            ("at δ", Some(number::exact(promised.delta))),
            (
                "ε measured by attack, at least",
                measured.map(|measured| number::epsilon_lower(measured.epsilon_lower_bound)),
            ),
        ];
        for (name, value) in tiles {
            let Some(value) = value else { continue };
            page.element("div", &[("class", "tile")], |page| {
                page.leaf("div", &[("class", "name")], name);
                page.leaf("div", &[("class", "value")], &value);
            });
        }
    });
    if promised.simulated {
        page.element("p", &[("class", "simulated")], |page| {
            page.leaf("span", &[("class", "badge")], "SIMULATED");
            page.text(
                " noise is reproducible from the seed; this ε describes the mechanism, not this model file",
            );
        });
    }
    for remark in &verdict.remarks {
        page.leaf("p", &[("class", "note")], remark);
    }
}

fn section(page: &mut Markup, title: &str, body: impl FnOnce(&mut Markup)) {
    page.line();
    page.element("section", &[], |page| {
        page.leaf("h2", &[], title);
        body(page);
    });
}

fn promise(page: &mut Markup, certificate: &Certificate) {
    let promised = &certificate.promise;
    section(page, "What was promised", |page| {
        page.element("div", &[("class", "cards wide")], |page| {
            card(page, "The promise", |page| {
                let planned = promised.epsilon_planned.map(|epsilon| {
                    format!(
                        "ε = {}, whatever the reason for which the run ended where it did",
                        number::epsilon_upper(epsilon)
                    )
                });
                let facts = [
                    ("Whom it protects", Some(promised.unit.clone())),
                    ("Neighbours", Some(promised.neighbors.clone())),
                    ("Against whom", Some(promised.trust.clone())),
                    (
                        "Budget",
                        promised
                            .epsilon_budget
                            .map(|budget| format!("at most ε = {}", number::exact(budget))),
                    ),
                    ("Whole plan", planned),
                ];
                terms(
                    page,
                    facts.into_iter().filter_map(|(name, value)| Some((name, value?))),
                );
            });
            card(page, "How it was kept", |page| {
                terms(page, pairs(&certificate.mechanism));
            });
            card(page, "By two accountants, from the recorded events", |page| {
                for accounted in &certificate.accountants {
                    let lower = accounted.epsilon_lower.map_or_else(String::new, |lower| {
                        format!(", and at least {}", number::epsilon_lower(lower))
                    });
                    let epsilon = accounted.epsilon.map_or_else(
                        || "no finite ε".to_owned(),
                        |epsilon| format!("ε at most {}", number::epsilon_upper(epsilon)),
                    );
                    let text = format!(
                        "{}: {epsilon}{lower} ({})",
                        accounted.accountant, accounted.version
                    );
                    page.leaf("p", &[], &text);
                }
            });
        });
    });
}

fn attacker(page: &mut Markup, certificate: &Certificate) {
    let attacker = &certificate.attacker;
    let Some(advantage) = attacker.advantage else {
        return;
    };
    section(page, "What that means", |page| {
        page.leaf(
            "p",
            &[],
            "Somebody knows everything but the coins: all data but one unit's, every released model, the program. They guess \
             whether that unit took part. No method, however clever, does better than this.",
        );
        page.element("div", &[("class", "cards wide")], |page| {
            trade_off(attacker).draw(page);
            card(page, "Best possible success", |page| {
                let head = [
                    "Chance beforehand that it took part",
                    "Right without any release",
                    "Right at best",
                ];
                let rows = attacker.success.iter().map(|success| {
                    vec![
                        number::percent(success.base_rate),
                        number::percent(success.blind),
                        upward(success.best),
                    ]
                });
                table(page, &head, rows);
                let advantage = format!(
                    "The rate of true positives exceeds that of false positives by at most {}.",
                    upward(advantage)
                );
                page.leaf("p", &[("class", "sub")], &advantage);
            });
        });
    });
}

fn trade_off(attacker: &Attacker) -> Chart {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is between 0 and 1"
    )]
    let percent = |rate: f64| (100.0 * rate).round() as u64;
    let curve = |value: fn(&ErrorRates) -> f64| {
        let points = attacker.trade_off.iter();
        points
            .map(|point| (percent(point.false_positive), Some(value(point))))
            .collect()
    };
    Chart {
        title: "Trade-off curve".to_owned(),
        subtitle:
            "the least share of units that any test must miss, by its share of false alarms; both in percent"
                .to_owned(),
        base: Base {
            axis: "false-positive rate, %",
            point: "false-positive rate, %:",
        },
        unit: Unit::Share,
        from_zero: true,
        series: vec![
            Series {
                name: "this run".to_owned(),
                look: 0,
                curve: curve(|point| point.false_negative),
            },
            Series {
                name: "nothing released".to_owned(),
                look: 7,
                curve: curve(|point| 1.0 - point.false_positive),
            },
        ],
        references: Vec::new(),
    }
}

fn spent(page: &mut Markup, certificate: &Certificate) {
    if certificate.rounds.is_empty() {
        return;
    }
    let promised = &certificate.promise;
    section(page, "What was spent, round by round", |page| {
        page.element("div", &[("class", "cards wide")], |page| {
            let budget = promised.epsilon_budget.map(|value| Reference {
                name: format!("budget, ε = {}", number::exact(value)),
                value,
            });
            Chart {
                title: "ε spent".to_owned(),
                subtitle: format!(
                    "upper bound claimed with each charge, at δ = {}",
                    number::exact(promised.delta)
                ),
                base: Base::ROUND,
                unit: Unit::Epsilon,
                from_zero: true,
                series: vec![Series {
                    name: "ε".to_owned(),
                    look: 0,
                    curve: certificate
                        .rounds
                        .iter()
                        .map(|round| (round.round, round.epsilon))
                        .collect(),
                }],
                references: budget.into_iter().collect(),
            }
            .draw(page);
        });
        let every = certificate.rounds.len().div_ceil(MOST_ROWS);
        let shown = certificate
            .rounds
            .iter()
            .zip(1..)
            .filter(|(_, place)| place % every == 0 || *place == 1 || *place == certificate.rounds.len());
        let rows = shown.map(|(round, _)| {
            vec![
                round.round.to_string(),
                round
                    .epsilon
                    .map_or_else(|| "infinite".to_owned(), number::epsilon_upper),
                if round.released {
                    "released"
                } else {
                    "charged, result lost"
                }
                .to_owned(),
                round.record.to_string(),
            ]
        });
        page.element("div", &[("class", "scroll")], |page| {
            table(
                page,
                &["Round", "ε so far", "Model", "Record of the charge"],
                rows,
            );
        });
        if every > 1 {
            page.leaf(
                "p",
                &[("class", "sub")],
                "Every round is in the JSON beside this page.",
            );
        }
    });
}

/// So many rounds are shown at most.
const MOST_ROWS: usize = 30;

fn assumptions(page: &mut Markup, certificate: &Certificate) {
    section(page, "What it rests on, and who vouches for it", |page| {
        page.element("div", &[("class", "card")], |page| {
            page.element("dl", &[("class", "vouched")], |page| {
                for assumption in &certificate.assumptions {
                    page.leaf("dd", &[], &assumption.what);
                    page.leaf("dt", &[], &assumption.vouched_by);
                }
            });
        });
    });
}

fn measured(page: &mut Markup, certificate: &Certificate) {
    section(page, "What an attack measured", |page| {
        match &certificate.measured {
        Some(measured) => {
            let text = format!(
                "An attack with {} canaries shows ε of at least {} with confidence {}{}. That is a lower bound on what leaks, never a \
                 guarantee that no more does.",
                number::count(measured.canaries as f64),
                number::epsilon_lower(measured.epsilon_lower_bound),
                number::exact(measured.confidence),
                measured.epsilon.map_or_else(String::new, |epsilon| format!(
                    ", where ε = {} is claimed",
                    number::epsilon_upper(epsilon)
                ))
            );
            page.leaf("p", &[], &text);
            if !measured.methods.is_empty() {
                let methods = format!("Methods: {}.", measured.methods.join(", "));
                page.leaf("p", &[("class", "sub")], &methods);
            }
        }
        None => page.leaf(
            "p",
            &[],
            "No attack was made on this run's pipeline, or its result was not given: nothing here shows that the recorded noise \
             was really drawn.",
        ),
    }
    });
}

fn population(page: &mut Markup, certificate: &Certificate) {
    let Some(total) = certificate.population_total else {
        return;
    };
    section(page, "All runs on this population", |page| {
        page.leaf(
            "p",
            &[],
            "What several runs on the same people cost adds up, also where later runs were chosen after seeing earlier ones.",
        );
        let epsilon =
            |epsilon: Option<f64>| epsilon.map_or_else(|| "infinite".to_owned(), number::epsilon_upper);
        let mut rows: Vec<_> = certificate
            .population
            .iter()
            .map(|run| {
                vec![
                    run.run.clone(),
                    run.fingerprint.clone(),
                    epsilon(run.epsilon),
                    number::exact(run.delta),
                    if run.verified {
                        "verified here"
                    } else {
                        "its share of the budget"
                    }
                    .to_owned(),
                ]
            })
            .collect();
        rows.push(vec![
            "together".to_owned(),
            String::new(),
            epsilon(total.epsilon),
            number::plain(total.delta),
            String::new(),
        ]);
        page.element("div", &[("class", "scroll")], |page| {
            table(page, &["Run", "Signer", "ε", "δ", "Known from"], rows.into_iter());
        });
    });
}

fn checking(page: &mut Markup, certificate: &Certificate) {
    section(page, "How to check it oneself", |page| {
        page.element("div", &[("class", "card")], |page| {
            page.element("ul", &[], |page| {
                for step in &certificate.how_to_check {
                    page.leaf("li", &[], step);
                }
            });
            page.element("dl", &[], |page| {
                for hash in &certificate.hashes {
                    page.leaf("dt", &[], &hash.name);
                    page.element("dd", &[], |page| page.leaf("code", &[], &hash.value));
                }
            });
        });
    });
}

fn list(page: &mut Markup, title: &str, items: &[String]) {
    section(page, title, |page| {
        page.element("div", &[("class", "card")], |page| {
            page.element("ul", &[], |page| {
                for item in items {
                    page.leaf("li", &[], item);
                }
            });
        });
    });
}

fn card(page: &mut Markup, title: &str, body: impl FnOnce(&mut Markup)) {
    page.element("div", &[("class", "card")], |page| {
        page.leaf("h3", &[], title);
        body(page);
    });
}

fn pairs(facts: &[Fact]) -> impl Iterator<Item = (&str, String)> {
    facts.iter().map(|fact| (fact.name.as_str(), fact.value.clone()))
}

fn terms<'a>(page: &mut Markup, facts: impl Iterator<Item = (&'a str, String)>) {
    page.element("dl", &[], |page| {
        for (name, value) in facts {
            page.leaf("dt", &[], name);
            page.leaf("dd", &[], &value);
        }
    });
}

fn table(page: &mut Markup, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    page.element("table", &[], |page| {
        page.element("thead", &[], |page| {
            page.element("tr", &[], |page| {
                for name in head {
                    page.leaf("th", &[("scope", "col")], name);
                }
            });
        });
        page.element("tbody", &[], |page| {
            for row in rows {
                page.element("tr", &[], |page| {
                    for cell in &row {
                        page.leaf("td", &[], cell);
                    }
                });
            }
        });
    });
}

/// A share in percent, rounded up: an attacker is never said to do worse than they may.
fn upward(share: f64) -> String {
    format!("{:.2}%", (share * 1e4).ceil() / 1e2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Certificate {
        Certificate {
            run: "a <run>".to_owned(),
            verdict: Verdict {
                consistent: true,
                signer: "it is signed by a key".to_owned(),
                faults: Vec::new(),
                remarks: Vec::new(),
            },
            promise: Promise {
                epsilon: Some(2.0),
                epsilon_planned: Some(2.0),
                epsilon_budget: None,
                delta: 1e-5,
                unit: "each client".to_owned(),
                neighbors: "add-remove".to_owned(),
                trust: "central".to_owned(),
                simulated: true,
            },
            accountants: Vec::new(),
            attacker: Attacker {
                advantage: None,
                success: Vec::new(),
                trade_off: Vec::new(),
            },
            rounds: vec![SpentRound {
                round: 1,
                epsilon: Some(2.0),
                released: false,
                record: 2,
            }],
            mechanism: Vec::new(),
            assumptions: Vec::new(),
            measured: None,
            not_covered: vec!["the server".to_owned()],
            population: Vec::new(),
            population_total: None,
            hashes: Vec::new(),
            how_to_check: Vec::new(),
        }
    }

    #[test]
    fn what_is_wrong_stands_on_the_page_in_large_letters() {
        let sound = render(&sample());
        assert!(
            sound.contains("a &lt;run&gt;") && sound.contains("SIMULATED") && sound.contains("result lost")
        );
        assert!(!sound.contains("banner danger"), "{sound}");
        let mut other = sample();
        other.verdict.consistent = false;
        other.verdict.faults.push("record 5: changed".to_owned());
        let page = render(&other);
        assert!(page.contains("NOT CONSISTENT") && page.contains("record 5: changed"));
        let mut other = sample();
        other.promise.epsilon = None;
        assert!(render(&other).contains("NOT PRIVATE"));
        let mut other = sample();
        other.measured = Some(Measured {
            epsilon: Some(2.0),
            epsilon_lower_bound: 2.5,
            confidence: 0.9999,
            canaries: 1000,
            methods: vec!["gaussian-score".to_owned()],
        });
        assert!(render(&other).contains("MORE LEAKS THAN IS CLAIMED"));
    }
}
