//! An experiment's promise in plain words.

use umbel_accounting::{Epsilon, EpsilonBounds};
use umbel_experiment::{AggregationFacts, LocalFacts};
use umbel_mechanisms::CentralGaussian;

use super::Explanation;
use crate::commands::budget::number::{self, near, text, upper, whole};

/// Refuses what there are no words for: nothing is said of a promise by guessing.
pub(super) fn knows(unit: &str, trust: &str, sampling: &str) -> anyhow::Result<()> {
    match (unit, trust, sampling) {
        ("client", "central", "poisson" | "turns") | ("client" | "example", "local", "poisson") => Ok(()),
        ("client", "distributed", "poisson") => Ok(()),
        _ => anyhow::bail!(
            "there are no words yet for unit \"{unit}\", trust \"{trust}\" and {sampling} sampling"
        ),
    }
}

impl Explanation {
    pub(super) fn describe(&self) -> String {
        let mut lines = vec![format!("{}: what it promises\n", self.name)];
        lines.extend(self.promise());
        lines.push("\nhow much noise on what".to_owned());
        lines.extend(self.noise());
        if self.ftrl.is_some() {
            lines.push(
                "\nε does not grow with rounds: the whole run is charged with its first round".to_owned(),
            );
        } else {
            let of = if self.local.is_some() || self.trust == "distributed" {
                "rounds that a client takes part in"
            } else {
                "rounds"
            };
            lines.push(format!("\nhow ε grows with {of}, at δ = {}", text(self.delta)));
            lines.push(format!("  {:>12}  {:>12}", "rounds", "ε at most"));
            lines.extend(self.by_rounds.iter().map(|point| {
                let epsilon = upper(point.epsilon.unwrap_or(f64::INFINITY));
                format!("  {:>12}  {epsilon:>12}", point.steps)
            }));
        }
        let (unknown, seen) = match (self.trust, self.unit) {
            ("local", "example") => ("whether one example is there", "everything that is sent"),
            ("local", _) => ("which of two data sets one client has", "everything that is sent"),
            ("distributed", _) => (
                "whether one client's update counted or was zero",
                "every opened sum and every released model",
            ),
            _ if self.secure_aggregation.is_some() => (
                "whether one client's update counted or was zero",
                "every released model",
            ),
            _ => ("whether one client took part", "every released model"),
        };
        lines.push(format!(
            "\nwhat that means: somebody who knows everything but {unknown}, sees {seen}, and guesses"
        ));
        lines.extend(self.attacker.lines().into_iter().map(|line| format!("  {line}")));
        lines.push("\nnot covered".to_owned());
        lines.extend(self.not_covered.iter().map(|item| format!("  - {item}")));
        lines.join("\n")
    }

    fn promise(&self) -> Vec<String> {
        let Some(epsilon) = self.epsilon else {
            let why = match self.noise_multiplier {
                None => "NO NOISE IS ADDED, ε IS INFINITE".to_owned(),
                Some(_) => format!(
                    "SO LITTLE NOISE IS ADDED THAT NO ε UP TO {} HOLDS",
                    CentralGaussian::MAX_EPSILON
                ),
            };
            return vec![
                format!("  NOT PRIVATE: {why}. NOTHING IS PROMISED TO ANYBODY."),
                format!("  unit           {}: {}", self.unit, self.unit_words()),
                format!("  relation       {}: {}", self.neighbors, self.relation_words()),
                format!(
                    "  trust          {}: everything would have to be trusted",
                    self.trust
                ),
                "  simulated      yes: nothing was run".to_owned(),
            ];
        };
        let bounds = EpsilonBounds {
            lower: self.epsilon_lower.and_then(|lower| Epsilon::new(lower).ok()),
            upper: Epsilon::new(epsilon).unwrap_or(Epsilon::INFINITE),
        };
        let mut lines = vec![
            format!("  promise        ε = {}", number::epsilon(bounds, self.delta)),
            format!("                 {}", self.who_learns_what()),
            format!("  to whom        {} (unit: {})", self.to_whom(), self.unit),
            format!("  relation       {}: {}", self.neighbors, self.relation_words()),
            format!("  against whom   {}", self.against_whom()),
            self.trusting_whom(),
            format!("  sampling       {}: {}", self.sampling, self.who_takes_part()),
            format!("  accountant     {}", self.accountant),
            "  simulated      yes: noise is reproducible from the seed; this ε describes the mechanism, not a model file"
                .to_owned(),
        ];
        if let (Some(limit), Some(within)) = (self.epsilon_budget, self.rounds_within_budget) {
            let limit = text(limit);
            lines.push(if within >= self.rounds {
                format!("  budget         ε = {limit}: all rounds are within it")
            } else {
                format!(
                    "  budget         ε = {limit}: the run stops after {within} of its {} rounds",
                    self.rounds
                )
            });
        }
        lines
    }

    fn unit_words(&self) -> &'static str {
        match self.unit {
            "example" => "one example of one client",
            _ => "all data of one client",
        }
    }

    fn relation_words(&self) -> &'static str {
        match (self.trust, self.unit) {
            ("local", "example") => "one example of a client is there or not",
            ("local", _) => "a client has these data or any other; that it takes part is not protected",
            _ if self.secure_aggregation.is_some() => {
                "a client's update counts, or counts as zero; that it takes part is not protected"
            }
            _ => "whether the client took part at all is protected",
        }
    }

    fn who_learns_what(&self) -> &'static str {
        match (self.trust, self.unit) {
            ("local", "example") => {
                "whoever sees everything that a client sends learns almost the same with or without any one example of it"
            }
            ("local", _) => {
                "whoever sees everything that a client sends learns almost the same whatever data it has"
            }
            ("distributed", _) => {
                "whoever sees every opened sum and released model learns almost the same whatever data any one client has"
            }
            _ if self.secure_aggregation.is_some() => {
                "whoever sees every released model learns almost the same whatever data any one client has"
            }
            _ => "whoever sees every released model learns almost the same with or without any one client",
        }
    }

    fn to_whom(&self) -> String {
        match self.unit {
            "example" => format!("each example of each of the {} clients", self.clients),
            _ => format!("each of the {} clients, for all its data together", self.clients),
        }
    }

    fn against_whom(&self) -> &'static str {
        match self.trust {
            "local" => "everyone, the server and all other clients together included",
            "distributed" => {
                "everyone, the server included, with the help of as many clients as are assumed to collude"
            }
            _ => "everyone who sees the models, of all rounds too, but not the server",
        }
    }

    fn trusting_whom(&self) -> String {
        match self.trust {
            "local" => format!(
                "  trusting whom  nobody ({}): each client clips and adds noise before anything leaves it",
                self.trust
            ),
            "distributed" => format!(
                "  trusting whom  {} ({}): {}",
                "enough of the clients",
                self.trust,
                self.secure_aggregation.as_ref().map_or_else(String::new, honest)
            ),
            _ if self.secure_aggregation.is_some() => format!(
                "  trusting whom  the server ({}): it sees every sum without noise, no single update, and adds the noise; {}",
                self.trust,
                self.secure_aggregation.as_ref().map_or_else(String::new, honest)
            ),
            _ => format!(
                "  trusting whom  the server ({}): it sees every update{}",
                self.trust,
                self.asked_of_the_server()
            ),
        }
    }

    /// What the server must do for the promise to hold, besides what it sees.
    fn asked_of_the_server(&self) -> &'static str {
        match &self.ftrl {
            Some(ftrl) if !ftrl.amplified => {
                ", adds the noise, and lets nobody take part more often; who takes part is no secret"
            }
            _ => ", adds the noise, and keeps who takes part a secret",
        }
    }

    fn who_takes_part(&self) -> String {
        let (rate, cohort) = (upper(self.sampling_rate), text(self.cohort));
        match &self.ftrl {
            Some(ftrl) => format!(
                "of the {} rounds each client may take part in at most {}, at least {} apart; whose turn it is joins with \
                 probability {rate}, {cohort} expected",
                self.rounds, ftrl.participations, ftrl.separation
            ),
            None if self.local.is_none() && self.secure_aggregation.is_some() => {
                let most = self
                    .secure_aggregation
                    .as_ref()
                    .and_then(|secure| secure.max_participations);
                let cap = most.map_or_else(String::new, |most| format!(", in at most {most} of them"));
                format!(
                    "each client joins each of the {} rounds with probability {rate}, {cohort} expected{cap}; nothing is gained from that, \
                     as everybody may see who takes part",
                    self.rounds
                )
            }
            None if self.local.is_some() => format!(
                "each client joins each of the {} rounds with probability {rate}, {cohort} expected, in at most {} of them; nothing \
                 is gained from that, as everybody may see who takes part",
                self.rounds,
                self.local.as_ref().map_or(0, |local| local.max_participations)
            ),
            None => format!(
                "each client joins each of the {} rounds with probability {rate}, {cohort} expected",
                self.rounds
            ),
        }
    }

    fn noise(&self) -> Vec<String> {
        let clip = text(self.clip_norm);
        if let Some(local) = &self.local {
            return self.local_noise(local);
        }
        let mut lines = vec![format!(
            "  each client's update, all layers as one vector, is shortened to a norm of at most {clip}{}",
            if self.adaptive_clip.is_some() {
                " in the first round"
            } else {
                ""
            }
        )];
        if self.clipped_by_layer {
            lines.push(
                "  before that each layer is shortened to an equal share of it, the norm over the root of the number of layers".to_owned(),
            );
        }
        if let Some(adaptive) = &self.adaptive_clip {
            lines.push(format!(
                "  later the norm follows the quantile {} of the updates' norms, from a count with noise of standard deviation {}; \
                 noise moves with it, and is {} times the clip norm, so that both together cost the noise multiplier",
                text(adaptive.quantile),
                near(adaptive.count_std_dev),
                near(adaptive.update_noise_multiplier)
            ));
        }
        let Some(multiplier) = self.noise_multiplier else {
            lines.push("  NO NOISE is added to their sum".to_owned());
            return lines;
        };
        if let Some(ftrl) = &self.ftrl {
            lines.extend([
                format!(
                    "  for each of the {} parameters Gaussian numbers ({}) of standard deviation {} are drawn, one a round: noise \
                     multiplier {} × clip norm {clip}; one client moves what they cover by at most {} × clip norm over the whole run",
                    self.parameters,
                    self.noise,
                    near(multiplier * self.clip_norm),
                    near(multiplier),
                    upper(ftrl.sensitivity)
                ),
                format!(
                    "  a {} strategy correlates them, so that later rounds take back part of earlier noise: divided by the cohort \
                     of {}, {} on each parameter of the last round's mean update, and {} on that of the sum over all rounds",
                    ftrl.strategy,
                    text(self.cohort),
                    near(self.noise_std_dev),
                    near(self.total_noise_std_dev.unwrap_or(f64::NAN))
                ),
            ]);
            return lines;
        }
        if let Some(secure) = self
            .secure_aggregation
            .as_ref()
            .filter(|_| self.trust == "distributed")
        {
            lines.extend(self.shares_of_noise(secure, multiplier));
            return lines;
        }
        lines.extend([
            format!(
                "  on each of the {} parameters of a round's sum comes Gaussian noise ({}) of standard deviation {}: noise \
                 multiplier {} × clip norm {clip}",
                self.parameters,
                self.noise,
                near(multiplier * self.clip_norm),
                near(multiplier)
            ),
            format!(
                "  divided by the cohort of {}, that is {} on each parameter of the mean update; all noise together has a \
                 norm of about {}, and one client moves the mean by at most {}",
                text(self.cohort),
                near(self.noise_std_dev),
                near(self.noise_std_dev * whole(self.parameters).sqrt()),
                upper(self.clip_norm / self.cohort)
            ),
        ]);
        lines
    }

    /// What each client adds, and what is counted on.
    fn shares_of_noise(&self, secure: &AggregationFacts, multiplier: f64) -> [String; 3] {
        let share = secure.client_noise_multiplier.unwrap_or(f64::NAN);
        let honest = secure.survivors_min - secure.colluding;
        [
            format!(
                "  it is rotated at random, rounded to integers of which the clip norm is {} units, and each of the {} parameters gets the \
                 client's own share of the noise ({} Gaussian): {} × clip norm; sums are modulo 2^{}",
                near(secure.clip_norm_grid_units.unwrap_or(f64::NAN)),
                self.parameters,
                self.noise,
                near(share),
                secure.modulus_bits
            ),
            format!(
                "  charged are the shares of the fewest that can be relied on, {honest} honest ones of {} survivors: together noise \
                 multiplier {}; what more survivors add is not counted",
                secure.survivors_min,
                near(multiplier)
            ),
            format!(
                "  divided by the cohort of {}, as many shares are {} on each parameter of the mean update",
                text(self.cohort),
                near(self.noise_std_dev)
            ),
        ]
    }

    /// What each client does.
    fn local_noise(&self, local: &LocalFacts) -> Vec<String> {
        let clip = text(self.clip_norm);
        let noise = match self.noise_multiplier {
            Some(multiplier) => format!(
                "Gaussian noise ({}) of standard deviation {}: noise multiplier {} × clip norm {clip}",
                self.noise,
                near(multiplier * self.clip_norm),
                near(multiplier)
            ),
            None => "NO NOISE".to_owned(),
        };
        let mut lines = match (local.steps, local.batch_sampling_rate, local.batch_divisor) {
            (Some(steps), Some(rate), Some(divisor)) => vec![
                format!(
                    "  a client takes {steps} steps a round; each of its examples is in a step's batch with probability {}, by coins that \
                     only the client sees",
                    upper(rate)
                ),
                format!(
                    "  each example's gradient is shortened to a norm of at most {clip}; their sum gets {noise}, and is divided by {}, \
                     however many there are",
                    text(divisor)
                ),
            ],
            _ => vec![
                format!(
                    "  a client shortens its update, all layers as one vector, to a norm of at most {clip}"
                ),
                format!("  on each of its {} parameters comes {noise}", self.parameters),
            ],
        };
        lines.push(format!(
            "  the mean of {} reports has noise of standard deviation {} on each parameter",
            text(self.cohort),
            near(self.noise_std_dev)
        ));
        lines
    }
}

/// How many clients of a sum must be honest.
fn honest(secure: &AggregationFacts) -> String {
    format!(
        "of the {} to {} clients in a sum at most {} may help the server, so {} % of the fewest are honest",
        secure.survivors_min,
        secure.clients_max,
        secure.colluding,
        near(100.0 * secure.honest_share)
    )
}
