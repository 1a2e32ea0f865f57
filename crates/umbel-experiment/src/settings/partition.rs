//! `[data.partition]`: who holds what.

use toml::Value;

use super::layers::DATA_PARTITION;
use super::section::{Section, SettingError};
use super::{to_size, whole};

/// Most clients that a partition may make: each takes a few bytes, whether it has examples or not.
const MOST_CLIENTS: u64 = 100_000_000;

/// `[data.partition]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PartitionSettings {
    /// One client for each key of the data; of each the first `max_examples` at most.
    ByKey {
        /// Most examples a client keeps.
        max_examples: Option<usize>,
    },
    /// Parts of the examples in the order of a number that each has as its key.
    Continuous {
        /// Number of clients.
        clients: usize,
        /// From 0, a random division, to 1, a range of numbers for each client.
        strictness: f64,
    },
    /// The examples of each class divided in proportions drawn from a Dirichlet distribution (Yurochkin et al. 2019).
    Dirichlet {
        /// Concentration, above 0: small means each client has few labels.
        alpha: f64,
        /// Number of clients.
        clients: usize,
    },
    /// The examples of each class divided in stated proportions.
    Distribution {
        /// For each class a share for each client; rows need not sum to 1.
        shares: Vec<Vec<f64>>,
    },
    /// Several keys of the data for each client, dealt out at random.
    GroupedKeys {
        /// Keys of a client.
        keys_per_client: usize,
    },
    /// Examples dealt out at random in equal numbers.
    Iid {
        /// Number of clients.
        clients: usize,
    },
    /// Clients of equal size, each with class proportions drawn from a Dirichlet distribution (Acar et al. 2021).
    InnerDirichlet {
        /// Concentration, above 0: small means each client has few labels.
        alpha: f64,
        /// Number of clients.
        clients: usize,
    },
    /// A fixed number of labels for each client (Li et al. 2022).
    Pathological {
        /// Number of clients.
        clients: usize,
        /// Labels of each of them.
        labels: usize,
    },
    /// Clients of different sizes.
    Quantity {
        /// Number of clients.
        clients: usize,
        /// How their sizes differ.
        skew: QuantitySettings,
    },
    /// Shards of the examples sorted by label (McMahan et al. 2017).
    Shards {
        /// Number of clients.
        clients: usize,
        /// Shards of each of them, 2 if absent.
        shards_per_client: usize,
    },
    /// Random parts of stated sizes; what is left is nobody's.
    Sizes {
        /// Examples of each client.
        sizes: Vec<usize>,
    },
}

/// `data.partition.skew`: sizes of clients.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum QuantitySettings {
    /// Drawn from a Dirichlet distribution.
    Dirichlet {
        /// Concentration, above 0.
        alpha: f64,
    },
    /// In proportion to the exponential of the client's number.
    Exponential,
    /// In proportion to the client's number.
    Linear,
    /// In proportion to the square of the client's number.
    Square,
}

impl PartitionSettings {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ByKey { .. } => "by-key",
            Self::Continuous { .. } => "continuous",
            Self::Distribution { .. } => "distribution",
            Self::GroupedKeys { .. } => "grouped-keys",
            Self::Dirichlet { .. } => "dirichlet",
            Self::Iid { .. } => "iid",
            Self::InnerDirichlet { .. } => "inner-dirichlet",
            Self::Pathological { .. } => "pathological",
            Self::Quantity { .. } => "quantity",
            Self::Shards { .. } => "shards",
            Self::Sizes { .. } => "sizes",
        }
    }

    /// Whether it needs a key of each example.
    pub fn needs_keys(&self) -> bool {
        matches!(
            self,
            Self::ByKey { .. } | Self::Continuous { .. } | Self::GroupedKeys { .. }
        )
    }

    pub(super) fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let count = |count: usize| whole(count as u64);
        let mut pairs = vec![("kind", self.kind().into())];
        match self {
            Self::ByKey { max_examples } => {
                pairs.extend(max_examples.map(|most| ("max_examples", count(most))));
            }
            Self::Continuous { clients, strictness } => {
                pairs.extend([("clients", count(*clients)), ("strictness", (*strictness).into())]);
            }
            Self::Distribution { shares } => {
                let row = |row: &Vec<f64>| Value::Array(row.iter().map(|&share| share.into()).collect());
                pairs.push(("shares", Value::Array(shares.iter().map(row).collect())));
            }
            Self::GroupedKeys { keys_per_client } => {
                pairs.push(("keys_per_client", count(*keys_per_client)));
            }
            Self::Dirichlet { alpha, clients } | Self::InnerDirichlet { alpha, clients } => {
                pairs.extend([("alpha", (*alpha).into()), ("clients", count(*clients))]);
            }
            Self::Iid { clients } => pairs.push(("clients", count(*clients))),
            Self::Pathological { clients, labels } => {
                pairs.extend([("clients", count(*clients)), ("labels", count(*labels))]);
            }
            Self::Quantity { clients, skew } => {
                let (name, alpha) = match skew {
                    QuantitySettings::Dirichlet { alpha } => ("dirichlet", Some(*alpha)),
                    QuantitySettings::Exponential => ("exponential", None),
                    QuantitySettings::Linear => ("linear", None),
                    QuantitySettings::Square => ("square", None),
                };
                pairs.extend([("clients", count(*clients)), ("skew", name.into())]);
                pairs.extend(alpha.map(|alpha| ("alpha", alpha.into())));
            }
            Self::Shards {
                clients,
                shards_per_client,
            } => pairs.extend([
                ("clients", count(*clients)),
                ("shards_per_client", count(*shards_per_client)),
            ]),
            Self::Sizes { sizes } => {
                let sizes = sizes.iter().map(|&size| count(size)).collect();
                pairs.push(("sizes", Value::Array(sizes)));
            }
        }
        pairs
    }
}

/// Reads `partition` out of `[data]`.
pub(super) fn read(data: &mut Section) -> Result<PartitionSettings, SettingError> {
    let kinds = data.kind_section("partition", DATA_PARTITION)?;
    let (kind, mut section) = data.require("partition", "a table with a `kind`", kinds)?;
    Ok(match kind {
        "by-key" => PartitionSettings::ByKey {
            max_examples: section.count("max_examples", 1)?.map(to_size).transpose()?,
        },
        "continuous" => {
            let expected = "a number from 0, a random division, to 1, a range of numbers for each client";
            let strictness = section.number("strictness", expected, |value| (0.0..=1.0).contains(&value))?;
            PartitionSettings::Continuous {
                clients: clients(&mut section)?,
                strictness: section.require("strictness", expected, strictness)?,
            }
        }
        "distribution" => {
            let expected = "a list with a row for each class, each a list of a share for each client";
            let share = |value: &Value| {
                let whole = value.as_integer().and_then(|share| i32::try_from(share).ok());
                let share = value.as_float().or_else(|| whole.map(f64::from));
                share.filter(|share| *share >= 0.0 && share.is_finite())
            };
            let row = |value: &Value| value.as_array()?.iter().map(share).collect();
            let shares = section.list::<Vec<f64>>("shares", expected, row)?;
            PartitionSettings::Distribution {
                shares: section.require("shares", expected, shares)?,
            }
        }
        "grouped-keys" => {
            let keys = section.count("keys_per_client", 1)?;
            let keys = section.require("keys_per_client", "the number of keys a client has", keys)?;
            PartitionSettings::GroupedKeys {
                keys_per_client: to_size(keys)?,
            }
        }
        "dirichlet" => PartitionSettings::Dirichlet {
            alpha: alpha(&mut section)?,
            clients: clients(&mut section)?,
        },
        "inner-dirichlet" => PartitionSettings::InnerDirichlet {
            alpha: alpha(&mut section)?,
            clients: clients(&mut section)?,
        },
        "pathological" => {
            let labels = section.count("labels", 1)?;
            let labels = section.require("labels", "the number of labels a client holds", labels)?;
            PartitionSettings::Pathological {
                clients: clients(&mut section)?,
                labels: to_size(labels)?,
            }
        }
        "quantity" => PartitionSettings::Quantity {
            clients: clients(&mut section)?,
            skew: skew(&mut section)?,
        },
        "shards" => PartitionSettings::Shards {
            clients: clients(&mut section)?,
            shards_per_client: to_size(section.count("shards_per_client", 1)?.unwrap_or(2))?,
        },
        "sizes" => {
            let expected = "a list of whole numbers, the examples of each client";
            let size = |value: &Value| value.as_integer().and_then(|size| usize::try_from(size).ok());
            let sizes = section.list("sizes", expected, size)?;
            PartitionSettings::Sizes {
                sizes: section.require("sizes", expected, sizes)?,
            }
        }
        _ => PartitionSettings::Iid {
            clients: clients(&mut section)?,
        },
    })
}

fn clients(section: &mut Section) -> Result<usize, SettingError> {
    let clients = section.count("clients", 1)?;
    let clients = section.require("clients", "the number of clients", clients)?;
    if clients > MOST_CLIENTS {
        return section.refuse("clients", format!("at most {MOST_CLIENTS}"), clients);
    }
    to_size(clients)
}

fn alpha(section: &mut Section) -> Result<f64, SettingError> {
    let expected = "a finite number above 0";
    let alpha = section.number("alpha", expected, |alpha| alpha > 0.0 && alpha.is_finite())?;
    section.require("alpha", expected, alpha)
}

fn skew(section: &mut Section) -> Result<QuantitySettings, SettingError> {
    let expected = "\"linear\", \"square\", \"exponential\" or \"dirichlet\" (with `alpha`)";
    let name = section.text("skew", expected)?;
    let skew = match section.require("skew", expected, name)?.as_str() {
        "dirichlet" => {
            return Ok(QuantitySettings::Dirichlet {
                alpha: alpha(section)?,
            });
        }
        "exponential" => QuantitySettings::Exponential,
        "linear" => QuantitySettings::Linear,
        "square" => QuantitySettings::Square,
        other => return section.refuse("skew", expected, format!("\"{other}\"")),
    };
    if section.has("alpha") {
        return Err(SettingError::Conflict {
            first: section.name("alpha"),
            second: section.name("skew"),
            reason: "only skew \"dirichlet\" has one; remove it".to_owned(),
        });
    }
    Ok(skew)
}
