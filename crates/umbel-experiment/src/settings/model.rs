//! `[model]`: what is trained.

use toml::Value;

use super::layers::MODEL;
use super::section::{Section, SettingError};
use super::{to_size, whole};

/// `[model]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ModelSettings {
    /// Logistic regression on the words of a text.
    BagOfWords,
    /// Convolutions with 2 × 2 maximum pooling, then dense layers.
    Cnn {
        /// Filters of each convolution; 16 and 32 if absent.
        filters: Vec<usize>,
        /// Side of the filters, odd; 3 if absent.
        kernel: usize,
        /// Width of each dense layer; 64 if absent.
        hidden: Vec<usize>,
        /// Behind convolutions and dense layers.
        activation: ActivationSettings,
        /// Share of the dense layers' values that training drops, at least 0 and below 1.
        dropout: f64,
    },
    /// Embedding, LSTM and a sigmoid (or a softmax, for more than two classes).
    Lstm {
        /// Width of an embedding; 16 if absent.
        embedding: usize,
        /// Units of the LSTM; 32 if absent.
        units: usize,
    },
    /// Dense layers.
    Mlp {
        /// Width of each hidden layer.
        hidden: Vec<usize>,
        /// Behind each of them.
        activation: ActivationSettings,
        /// Share of their values that training drops, at least 0 and below 1.
        dropout: f64,
        /// What is minimised.
        loss: LossSettings,
    },
    /// Multinomial logistic regression.
    Softmax,
    /// The mean of embeddings, dense layers and a sigmoid (or a softmax, for more than two classes).
    TextPool {
        /// Width of an embedding; 16 if absent.
        embedding: usize,
        /// Width of each dense layer; none if absent.
        hidden: Vec<usize>,
        /// Share of the mean's values that training drops, at least 0 and below 1.
        dropout: f64,
    },
    /// A transformer encoder, the mean over its places and a sigmoid (or a softmax, for more than two classes).
    Transformer {
        /// Width of an embedding and of each layer, a multiple of `heads`; 64 if absent.
        width: usize,
        /// Heads of attention; 4 if absent.
        heads: usize,
        /// Encoder layers; 2 if absent.
        layers: usize,
        /// Width between the two dense layers behind each attention; 4 × `width` if absent.
        hidden: usize,
    },
}

/// `activation` of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_enums, reason = "whoever builds a model must handle all")]
pub enum ActivationSettings {
    /// max(0, x).
    #[default]
    Relu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

/// `loss` of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_enums, reason = "whoever builds a model must handle all")]
pub enum LossSettings {
    /// One sigmoid for two classes.
    BinaryCrossEntropy,
    /// A softmax over all classes.
    #[default]
    SoftmaxCrossEntropy,
    /// Half the squared distance to one-hot.
    SquaredError,
}

const ACTIVATIONS: [(&str, ActivationSettings); 3] = [
    ("relu", ActivationSettings::Relu),
    ("sigmoid", ActivationSettings::Sigmoid),
    ("tanh", ActivationSettings::Tanh),
];
const LOSSES: [(&str, LossSettings); 3] = [
    ("binary-cross-entropy", LossSettings::BinaryCrossEntropy),
    ("softmax-cross-entropy", LossSettings::SoftmaxCrossEntropy),
    ("squared-error", LossSettings::SquaredError),
];

impl ModelSettings {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BagOfWords => "bag-of-words",
            Self::Cnn { .. } => "cnn",
            Self::Lstm { .. } => "lstm",
            Self::Mlp { .. } => "mlp",
            Self::Softmax => "softmax",
            Self::TextPool { .. } => "text-pool",
            Self::Transformer { .. } => "transformer",
        }
    }

    pub(super) fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let widths =
            |widths: &[usize]| Value::Array(widths.iter().map(|width| whole(*width as u64)).collect());
        let mut pairs = vec![("kind", self.kind().into())];
        match self {
            Self::Cnn {
                filters,
                kernel,
                hidden,
                activation,
                dropout,
            } => pairs.extend([
                ("filters", widths(filters)),
                ("kernel", whole(*kernel as u64)),
                ("hidden", widths(hidden)),
                ("activation", name_of(&ACTIVATIONS, *activation)),
                ("dropout", (*dropout).into()),
            ]),
            Self::Lstm { embedding, units } => pairs.extend([
                ("embedding", whole(*embedding as u64)),
                ("units", whole(*units as u64)),
            ]),
            // What was written before these settings existed stays as it was, byte for byte.
            Self::Mlp {
                hidden,
                activation,
                dropout,
                loss,
            } => {
                pairs.push(("hidden", widths(hidden)));
                if *activation != ActivationSettings::default() {
                    pairs.push(("activation", name_of(&ACTIVATIONS, *activation)));
                }
                if *dropout > 0.0 {
                    pairs.push(("dropout", (*dropout).into()));
                }
                if *loss != LossSettings::default() {
                    pairs.push(("loss", name_of(&LOSSES, *loss)));
                }
            }
            Self::BagOfWords | Self::Softmax => {}
            Self::TextPool {
                embedding,
                hidden,
                dropout,
            } => pairs.extend([
                ("embedding", whole(*embedding as u64)),
                ("hidden", widths(hidden)),
                ("dropout", (*dropout).into()),
            ]),
            Self::Transformer {
                width,
                heads,
                layers,
                hidden,
            } => pairs.extend([
                ("width", whole(*width as u64)),
                ("heads", whole(*heads as u64)),
                ("layers", whole(*layers as u64)),
                ("hidden", whole(*hidden as u64)),
            ]),
        }
        pairs
    }
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: T) -> Value {
    let found = names.iter().find(|(_, known)| *known == value);
    found.map_or("", |(name, _)| name).into()
}

/// Reads `[model]`.
pub(super) fn read(root: &mut Section) -> Result<ModelSettings, SettingError> {
    let section = root.kind_section("model", MODEL)?;
    let (kind, mut section) = root.require("model", "a table with a `kind`", section)?;
    let section = &mut section;
    Ok(match kind {
        "bag-of-words" => ModelSettings::BagOfWords,
        "cnn" => ModelSettings::Cnn {
            filters: section.counts("filters")?.unwrap_or_else(|| vec![16, 32]),
            kernel: count(section, "kernel", 3)?,
            hidden: widths(section, &[64])?,
            activation: choice(section, "activation", &ACTIVATIONS)?,
            dropout: dropout(section)?,
        },
        "lstm" => ModelSettings::Lstm {
            embedding: count(section, "embedding", 16)?,
            units: count(section, "units", 32)?,
        },
        "mlp" => {
            let hidden = section.counts("hidden")?;
            ModelSettings::Mlp {
                hidden: section.require("hidden", "the width of each hidden layer", hidden)?,
                activation: choice(section, "activation", &ACTIVATIONS)?,
                dropout: dropout(section)?,
                loss: choice(section, "loss", &LOSSES)?,
            }
        }
        "text-pool" => ModelSettings::TextPool {
            embedding: count(section, "embedding", 16)?,
            hidden: widths(section, &[])?,
            dropout: dropout(section)?,
        },
        "transformer" => {
            let width = count(section, "width", 64)?;
            ModelSettings::Transformer {
                width,
                heads: count(section, "heads", 4)?,
                layers: count(section, "layers", 2)?,
                hidden: count(section, "hidden", (width as u64).saturating_mul(4))?,
            }
        }
        _ => ModelSettings::Softmax,
    })
}

fn count(section: &mut Section, key: &str, default: u64) -> Result<usize, SettingError> {
    to_size(section.count(key, 1)?.unwrap_or(default))
}

/// Widths of dense layers, of which there may be none.
fn widths(section: &mut Section, default: &[usize]) -> Result<Vec<usize>, SettingError> {
    Ok(section
        .counts_or_none("hidden")?
        .unwrap_or_else(|| default.to_vec()))
}

fn dropout(section: &mut Section) -> Result<f64, SettingError> {
    let share = |share: f64| (0.0..1.0).contains(&share);
    let share = section.number("dropout", "a number of at least 0 and below 1", share)?;
    Ok(share.unwrap_or(0.0))
}

/// One of these names, or the default.
fn choice<T: Copy + Default>(
    section: &mut Section,
    key: &str,
    names: &[(&'static str, T)],
) -> Result<T, SettingError> {
    let quoted: Vec<_> = names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let expected = quoted.join(" or ");
    let Some(text) = section.text(key, &expected)? else {
        return Ok(T::default());
    };
    match names.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(*value),
        None => section.refuse(key, expected, format!("\"{text}\"")),
    }
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;

    fn parse(text: &str) -> Result<ModelSettings, SettingError> {
        let table: Table = text.parse().unwrap();
        read(&mut Section::new("", table, &["model"]).unwrap())
    }

    #[test]
    fn every_kind_reads_back_what_it_writes() {
        for text in [
            "kind = \"bag-of-words\"",
            "kind = \"cnn\"",
            "kind = \"cnn\", filters = [32, 64], kernel = 5, hidden = [512], activation = \"tanh\", dropout = 0.5",
            "kind = \"cnn\", hidden = []",
            "kind = \"lstm\"",
            "kind = \"lstm\", embedding = 8, units = 4",
            "kind = \"mlp\", hidden = [20]",
            "kind = \"mlp\", hidden = [20], activation = \"sigmoid\", dropout = 0.1, loss = \"squared-error\"",
            "kind = \"softmax\"",
            "kind = \"text-pool\"",
            "kind = \"transformer\"",
            "kind = \"transformer\", width = 32, heads = 2, layers = 1, hidden = 48",
            "kind = \"text-pool\", embedding = 8, hidden = [4, 3], dropout = 0.2",
        ] {
            let settings = parse(&format!("model = {{ {text} }}")).unwrap();
            let pairs = settings.to_pairs();
            let written: Vec<_> = pairs
                .iter()
                .map(|(key, value)| format!("{key} = {value}"))
                .collect();
            assert_eq!(
                parse(&format!("[model]\n{}", written.join("\n"))).unwrap(),
                settings,
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_kind_does_not_know_is_refused_by_name() {
        for (text, part) in [
            (
                "kind = \"softmax\", hidden = [3]",
                "unknown setting `model.hidden`",
            ),
            (
                "kind = \"lstm\", activation = \"relu\"",
                "unknown setting `model.activation`",
            ),
            ("kind = \"mlp\", hidden = []", "`model.hidden` must be"),
            (
                "kind = \"mlp\", hidden = [3], activation = \"gelu\"",
                "\"relu\" or \"sigmoid\" or \"tanh\"",
            ),
            ("kind = \"cnn\", dropout = 1.0", "`model.dropout` must be"),
            ("kind = \"cnn\", kernel = 0", "`model.kernel` must be"),
            ("kind = \"transformer\", heads = 0", "`model.heads` must be"),
            ("kind = \"perceptron\"", "`model.kind` must be"),
        ] {
            let error = parse(&format!("model = {{ {text} }}")).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
