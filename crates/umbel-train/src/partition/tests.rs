//! What every partition promises, and what each kind does.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::reader::read_client_keys;
use crate::test_files::write;

fn rng(seed: u8) -> TrainingRng {
    TrainingRng::from_seed([seed; 32])
}

fn keys(rows: &[&str]) -> ClientKeys {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("writer\n{}\n", rows.join("\n"));
    read_client_keys(&write(folder.path(), "keys", text.as_bytes()), None).unwrap()
}

fn sizes(partition: &Partition) -> Vec<usize> {
    (0..partition.n_clients())
        .map(|client| partition.examples(client).len())
        .collect()
}

/// Every example belongs to exactly one client.
fn assert_complete(partition: &Partition, n_examples: usize) {
    let mut owners = vec![0; n_examples];
    for client in 0..partition.n_clients() {
        for &example in partition.examples(client) {
            owners[example as usize] += 1;
        }
    }
    assert!(owners.iter().all(|&owners| owners == 1), "{owners:?}");
    assert_eq!((partition.n_examples(), partition.n_left_out()), (n_examples, 0));
}

#[test]
fn a_partition_by_key_follows_the_keys() {
    let partition = Partition::by_key(&keys(&["b", "a", "b", "c", "b"]), None).unwrap();
    assert_complete(&partition, 5);
    let clients: Vec<(String, &[u32])> = (0..3)
        .map(|client| (partition.name(client).into_owned(), partition.examples(client)))
        .collect();
    let expected = [
        ("a".to_owned(), &[1][..]),
        ("b".to_owned(), &[0, 2, 4]),
        ("c".to_owned(), &[3]),
    ];
    assert_eq!(clients, expected);
}

#[test]
fn a_limit_keeps_the_first_examples_of_each_client() {
    let keys = keys(&["b", "a", "b", "c", "b"]);
    let partition = Partition::by_key(&keys, Some(2)).unwrap();
    assert_eq!(partition.examples(1), [0, 2]);
    assert_eq!((partition.n_examples(), partition.n_left_out()), (4, 1));
    assert_eq!(partition.examples(2), [3]);
    assert!(matches!(
        Partition::by_key(&keys, Some(0)),
        Err(PartitionError::MaxExamples)
    ));
}

#[test]
fn keys_are_grouped_whole() {
    let rows: Vec<String> = (0..100).map(|row| format!("k{}", row % 7)).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let keys = keys(&rows);
    let partition = Partition::grouped_keys(&keys, 3, &mut rng(4)).unwrap();
    assert_complete(&partition, 100);
    let mut owners = vec![BTreeSet::new(); 7];
    for client in 0..3 {
        for &example in partition.examples(client) {
            owners[example as usize % 7].insert(client);
        }
    }
    assert!(owners.iter().all(|owners| owners.len() == 1), "{owners:?}");
    let of_client = |client| owners.iter().filter(|owners| owners.contains(&client)).count();
    assert_eq!([0, 1, 2].map(of_client), [3, 3, 1]);
    let message = Partition::grouped_keys(&keys, 0, &mut rng(4))
        .unwrap_err()
        .to_string();
    assert_eq!(message, "partition keys_per_client must be at least 1, got 0");
}

/// With strictness 1 clients have ranges that follow each other; with 0 they have the mean of all, 49.5, to within the standard
/// error 28.9 / √250 = 1.83 of a client's mean: 10 is over five of them for each of four clients, and the seed is fixed.
#[test]
fn examples_are_sorted_by_their_number_as_strictly_as_asked() {
    let rows: Vec<String> = (0..1000).map(|row| format!("{}", row * 37 % 100)).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let keys = keys(&rows);
    let numbers = |partition: &Partition, client: usize| -> Vec<f64> {
        let examples = partition.examples(client).iter();
        examples.map(|&example| f64::from(example * 37 % 100)).collect()
    };
    let partition = |strictness| Partition::continuous(&keys, 4, strictness, &mut rng(4)).unwrap();
    let strict = partition(1.0);
    assert_complete(&strict, 1000);
    for client in 0..4 {
        let numbers = numbers(&strict, client);
        let first = 25.0 * f64::from(u8::try_from(client).unwrap());
        assert!(
            numbers.len() == 250
                && numbers
                    .iter()
                    .all(|number| (first..first + 25.0).contains(number))
        );
    }
    let means = |partition: &Partition| -> Vec<f64> {
        (0..4)
            .map(|client| numbers(partition, client).iter().sum::<f64>() / 250.0)
            .collect()
    };
    let random = means(&partition(0.0));
    assert!(random.iter().all(|mean| (mean - 49.5).abs() < 10.0), "{random:?}");
    let between = means(&partition(0.5));
    assert!(between.windows(2).all(|pair| pair[0] < pair[1]) && between[0] > 12.5 && between[3] < 86.5);

    let message = Partition::continuous(&keys, 4, 1.5, &mut rng(4))
        .unwrap_err()
        .to_string();
    assert_eq!(message, "partition strictness must be from 0 to 1, got 1.5");
    let message = Partition::continuous(&self::keys(&["1", "old"]), 4, 1.0, &mut rng(4)).unwrap_err();
    assert_eq!(
        message.to_string(),
        "a continuous partition sorts examples by a number, got the key `old`"
    );
}

#[test]
fn stated_shares_are_kept() {
    let labels: Vec<u32> = (0..300).map(|example| example % 3).collect();
    let shares = [vec![1.0, 0.0, 1.0], vec![0.2, 0.5, 0.3], vec![0.0, 9.0, 0.0]];
    let partition = Partition::distribution(&labels, 3, &shares, &mut rng(4)).unwrap();
    assert_complete(&partition, 300);
    let summary = partition.summary(&labels, 3);
    let counts: Vec<&[usize]> = summary.labels.iter().map(|client| &client.counts[..]).collect();
    assert_eq!(counts, [&[50, 20, 0][..], &[0, 50, 100], &[50, 30, 0]]);
    let message = |shares: &[Vec<f64>]| {
        let result = Partition::distribution(&labels, 3, shares, &mut rng(4));
        result.unwrap_err().to_string()
    };
    assert_eq!(
        message(&shares[..2]),
        "partition shares must have a row for each of the 3 classes, got 2"
    );
    for bad in [
        vec![1.0, 1.0],
        vec![0.0; 3],
        vec![1.0, -1.0, 1.0],
        vec![1.0, f64::NAN, 1.0],
    ] {
        let rows = [shares[0].clone(), bad, shares[2].clone()];
        assert!(message(&rows).starts_with("partition shares of class 1 must be 3 finite numbers"));
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let message = |result: Result<Partition, PartitionError>| result.unwrap_err().to_string();
    assert_eq!(
        message(Partition::iid(10, 0, &mut rng(1))),
        "partition clients must be from 1 to 4294967295, got 0"
    );
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let message = message(Partition::dirichlet(&[0, 1], 2, 2, alpha, &mut rng(1)));
        assert!(
            message.starts_with("partition alpha must be a finite number above 0"),
            "{message}"
        );
    }
    let dataset = Dataset::from_values("it", &[1], vec![0.0; 2], vec![0, 1], 2).unwrap();
    let spec = PartitionSpec::ByKey { max_examples: None };
    let result = spec.partition(&dataset, None, &mut rng(1));
    assert_eq!(message(result), "a partition by key needs a file of client keys");
    let result = spec.partition(&dataset, Some(&keys(&["a", "b", "c"])), &mut rng(1));
    assert!(message(result).starts_with("it has 2 examples, but "));
}

#[test]
fn the_same_seed_gives_the_same_partition() {
    let labels: Vec<u32> = (0..10).cycle().take(500).collect();
    let dirichlet = |seed| Partition::dirichlet(&labels, 10, 7, 0.5, &mut rng(seed)).unwrap();
    assert_eq!(dirichlet(1), dirichlet(1));
    assert_ne!(dirichlet(1), dirichlet(2));
    let iid = |seed| Partition::iid(500, 7, &mut rng(seed)).unwrap();
    assert_eq!(iid(1), iid(1));
    assert_ne!(iid(1), iid(2));
}

/// For each class the variance of one client's share is (1/n)(1 - 1/n) / (n alpha + 1), by the moments of the
/// symmetric Dirichlet distribution. The mean of 4000 squared deviations has a relative standard deviation of at
/// most 3 % for these alphas (from the fourth moments of the Beta distributions), so 18 % is six of them: the
/// false-alarm probability is below 1e-6, and the seed is fixed.
#[test]
fn dirichlet_shares_have_their_variance() {
    let (n_clients, n_classes, each) = (4, 4000, 1000);
    let labels: Vec<u32> = (0..4000)
        .flat_map(|class| std::iter::repeat_n(class, each))
        .collect();
    for alpha in [0.1, 1.0, 10.0] {
        let partition = Partition::dirichlet(&labels, n_classes, n_clients, alpha, &mut rng(3)).unwrap();
        let mut counts = vec![0.0; n_classes];
        for &example in partition.examples(1) {
            counts[labels[example as usize] as usize] += 1.0;
        }
        let mean_square: f64 = counts
            .iter()
            .map(|count| (count / each as f64 - 0.25_f64).powi(2))
            .sum::<f64>()
            / n_classes as f64;
        let expected = 0.25 * 0.75 / (4.0 * alpha + 1.0);
        assert!(
            (mean_square / expected - 1.0).abs() < 0.3,
            "alpha {alpha}: {mean_square} for {expected}"
        );
    }
}

#[test]
fn a_tiny_alpha_gives_each_class_to_one_client() {
    let labels: Vec<u32> = (0..10).cycle().take(1000).collect();
    for alpha in [1e-6, 1e-300, f64::MIN_POSITIVE / 1e10] {
        let partition = Partition::dirichlet(&labels, 10, 50, alpha, &mut rng(4)).unwrap();
        assert_complete(&partition, 1000);
        assert!(
            sizes(&partition).iter().all(|size| size % 100 == 0),
            "{:?}",
            sizes(&partition)
        );
    }
}

#[test]
fn a_summary_counts_clients_and_labels() {
    let keys = keys(&["a", "a", "a", "b", "c", "c", "d", "a"]);
    let summary = Partition::by_key(&keys, None)
        .unwrap()
        .summary(&[0, 1, 1, 1, 0, 0, 1, 0], 2);
    assert_eq!(
        (summary.n_clients, summary.n_examples, summary.n_without_examples),
        (4, 8, 0)
    );
    assert_eq!((summary.min_examples, summary.max_examples), (1, 4));
    assert!((summary.median_examples - 1.5).abs() < 1e-12 && (summary.mean_examples - 2.0).abs() < 1e-12);
    let bins: Vec<(usize, usize, usize)> = summary
        .histogram
        .iter()
        .map(|bin| (bin.first, bin.last, bin.n_clients))
        .collect();
    assert_eq!(bins, [(1, 1, 2), (2, 2, 1), (3, 3, 0), (4, 4, 1)]);
    assert_eq!(
        summary.labels[0],
        ClientLabels {
            name: "a".to_owned(),
            counts: vec![2, 2]
        }
    );
    assert_eq!(
        summary.labels[2],
        ClientLabels {
            name: "c".to_owned(),
            counts: vec![2, 0]
        }
    );
}

#[test]
fn a_summary_shows_the_first_fifty_clients_and_few_bins() {
    let partition = Partition::dirichlet(&[0; 5000], 1, 80, 0.3, &mut rng(5)).unwrap();
    let summary = partition.summary(&[0; 5000], 1);
    assert_eq!(summary.labels.len(), 50);
    assert!(summary.histogram.len() <= 20);
    assert_eq!(
        summary.histogram.iter().map(|bin| bin.n_clients).sum::<usize>(),
        80
    );
    assert_eq!(summary.histogram[0].first, summary.min_examples);
    assert!(
        summary
            .histogram
            .windows(2)
            .all(|pair| pair[0].last + 1 == pair[1].first)
    );
    assert!(summary.histogram.last().unwrap().last >= summary.max_examples);
    assert_eq!(
        summary.n_without_examples,
        sizes(&partition).iter().filter(|&&size| size == 0).count()
    );
}

/// Labels of each client.
fn classes_of(partition: &Partition, labels: &[u32]) -> Vec<BTreeSet<u32>> {
    (0..partition.n_clients())
        .map(|client| {
            let examples = partition.examples(client).iter();
            examples.map(|&example| labels[example as usize]).collect()
        })
        .collect()
}

#[test]
fn shards_have_equal_sizes_and_clients_few_labels() {
    // McMahan et al. 2017 on MNIST: 100 clients with 2 shards of 300 each. Here classes of equal size end where shards do.
    let labels: Vec<u32> = (0..10).cycle().take(6000).collect();
    let partition = Partition::shards(&labels, 100, 2, &mut rng(1)).unwrap();
    assert_complete(&partition, 6000);
    assert!(sizes(&partition).iter().all(|&size| size == 60));
    let classes = classes_of(&partition, &labels);
    assert!(classes.iter().all(|classes| classes.len() <= 2));
    assert!(classes.iter().filter(|classes| classes.len() == 2).count() > 50);
}

#[test]
fn shards_that_cannot_be_are_refused() {
    for (n_clients, shards_per_client) in [(4, 0), (6, 2), (usize::from(u16::MAX), usize::MAX)] {
        let error = Partition::shards(&[0; 10], n_clients, shards_per_client, &mut rng(1)).unwrap_err();
        let expected = format!(
            "partition shards_per_client must be at least 1, and clients × shards_per_client at most the 10 examples, got \
             {n_clients} × {shards_per_client}"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn pathological_clients_have_their_number_of_labels() {
    let labels: Vec<u32> = (0..10).cycle().take(3000).collect();
    for (n_clients, each) in [(7, 3), (100, 2), (10, 1), (5, 2), (3, 10)] {
        let partition = Partition::pathological(&labels, 12, n_clients, each, &mut rng(2)).unwrap();
        assert_complete(&partition, 3000);
        let classes = classes_of(&partition, &labels);
        assert!(classes.iter().all(|classes| classes.len() == each), "{classes:?}");
        let holders = |class| classes.iter().filter(|classes| classes.contains(&class)).count();
        let holders: Vec<usize> = (0..10).map(holders).collect();
        assert!(
            holders.iter().max().unwrap() - holders.iter().min().unwrap() <= 1,
            "{holders:?}"
        );
    }
}

#[test]
fn labels_that_cannot_be_given_out_are_refused() {
    let labels: Vec<u32> = (0..10).collect();
    for (n_clients, each) in [(4, 2), (20, 0), (20, 11), (20, usize::MAX)] {
        let error = Partition::pathological(&labels, 10, n_clients, each, &mut rng(1)).unwrap_err();
        let expected = format!(
            "partition labels must be from 1 to the number of classes that occur (10), and enough that all clients together have \
             them all, got {each} for each of {n_clients} clients"
        );
        assert_eq!(error.to_string(), expected);
    }
}

/// Shares worked by hand: 1, 2, 3, 4 of 10 and 1, 4, 9, 16 of 30 parts; for the exponential e^-3, e^-2, e^-1, 1 over their
/// sum 1.5530, so 0.0321, 0.0871, 0.2369, 0.6439.
#[test]
fn quantities_are_in_their_proportions() {
    let quantity = |n_examples, n_clients, skew| {
        let partition = Partition::quantity(n_examples, n_clients, skew, &mut rng(3)).unwrap();
        assert_complete(&partition, n_examples);
        sizes(&partition)
    };
    assert_eq!(quantity(1000, 4, QuantitySkew::Linear), [100, 200, 300, 400]);
    assert_eq!(quantity(300, 4, QuantitySkew::Square), [10, 40, 90, 160]);
    assert_eq!(
        quantity(10_000, 4, QuantitySkew::Exponential),
        [321, 871, 2369, 6439]
    );
    let many = quantity(1000, 2000, QuantitySkew::Exponential);
    assert_eq!((many[0], many[1999]), (0, 632));
    let skewed = quantity(1000, 10, QuantitySkew::Dirichlet { alpha: 0.1 });
    let even = quantity(1000, 10, QuantitySkew::Dirichlet { alpha: 1e6 });
    assert!(skewed.iter().max() > Some(&300) && even.iter().all(|size| (95..=105).contains(size)));
    let skew = QuantitySkew::Dirichlet { alpha: 0.0 };
    let error = Partition::quantity(10, 2, skew, &mut rng(3)).unwrap_err();
    assert!(matches!(error, PartitionError::Alpha { .. }));
}

#[test]
fn stated_sizes_are_kept_and_the_rest_is_nobodys() {
    let partition = Partition::sizes(10, &[3, 0, 5], &mut rng(4)).unwrap();
    assert_eq!((sizes(&partition), partition.n_left_out()), (vec![3, 0, 5], 2));
    let held: BTreeSet<u32> = (0..3)
        .flat_map(|client| partition.examples(client).to_vec())
        .collect();
    assert_eq!(held.len(), 8);
    let error = Partition::sizes(10, &[3, usize::MAX], &mut rng(4)).unwrap_err();
    assert!(matches!(error, PartitionError::Sizes { n_examples: 10, .. }));
    assert!(Partition::sizes(10, &[], &mut rng(4)).is_err());
}

/// With alpha = 0.01 the largest of ten shares of a symmetric Dirichlet distribution is nearly always close to 1, with alpha
/// = 1e6 all are 0.1; the seed is fixed, and the bounds are far from both.
#[test]
fn inner_dirichlet_clients_have_equal_sizes_and_their_own_classes() {
    let labels: Vec<u32> = (0..10).cycle().take(10_000).collect();
    let largest_share = |alpha| {
        let partition = Partition::inner_dirichlet(&labels, 10, 100, alpha, &mut rng(5)).unwrap();
        assert_complete(&partition, 10_000);
        assert!(sizes(&partition).iter().all(|&size| size == 100));
        let largest = |client| {
            let mut counts = [0; 10];
            for &example in partition.examples(client) {
                counts[labels[example as usize] as usize] += 1;
            }
            *counts.iter().max().unwrap()
        };
        (0..100).map(largest).collect::<Vec<usize>>()
    };
    let skewed = largest_share(0.01);
    assert!(
        skewed.iter().filter(|&&largest| largest >= 50).count() > 80,
        "{skewed:?}"
    );
    assert!(largest_share(1e6).iter().all(|&largest| largest < 30));
    assert_complete(
        &Partition::inner_dirichlet(&labels, 10, 3, f64::MIN_POSITIVE, &mut rng(5)).unwrap(),
        10_000,
    );
}

fn specs(n_clients: usize, alpha: f64) -> Vec<PartitionSpec> {
    let clients = n_clients;
    let quantity = |skew| PartitionSpec::Quantity { clients, skew };
    vec![
        PartitionSpec::Dirichlet { alpha, clients },
        PartitionSpec::Iid { clients },
        PartitionSpec::InnerDirichlet { alpha, clients },
        PartitionSpec::Pathological { clients, labels: 2 },
        quantity(QuantitySkew::Dirichlet { alpha }),
        quantity(QuantitySkew::Exponential),
        quantity(QuantitySkew::Linear),
        quantity(QuantitySkew::Square),
        PartitionSpec::Shards {
            clients,
            shards_per_client: 2,
        },
    ]
}

proptest! {
    /// Whatever the kind: all examples, each with exactly one client, the same ones for the same seed; or a refusal.
    #[test]
    fn every_kind_gives_every_example_to_one_client_and_the_same_again(
        labels in proptest::collection::vec(0..5_u32, 1..200),
        n_clients in 1..120_usize,
        alpha in prop_oneof![0.001..1.0_f64, 1.0..1000.0_f64],
        seed: u8,
    ) {
        let n_examples = labels.len();
        let dataset = Dataset::from_values("it", &[1], vec![0.0; n_examples], labels, 6).unwrap();
        for spec in specs(n_clients, alpha) {
            let partition = || spec.partition(&dataset, None, &mut rng(seed));
            match (partition(), partition()) {
                (Ok(first), Ok(second)) => {
                    prop_assert_eq!(&first, &second, "{:?}", spec);
                    prop_assert_eq!(first.n_clients(), n_clients);
                    assert_complete(&first, n_examples);
                }
                (Err(PartitionError::Shards { .. }), _) => prop_assert!(n_clients * 2 > n_examples),
                (Err(PartitionError::Labels { n_classes, .. }), _) => {
                    prop_assert!(n_classes < 2 || n_clients * 2 < n_classes);
                }
                (first, _) => prop_assert!(false, "{:?}: {:?}", spec, first),
            }
        }
    }

    #[test]
    fn parts_are_equal_or_follow_the_keys(
        labels in proptest::collection::vec(0..5_u32, 1..200),
        n_clients in 1..300_usize,
        seed: u8,
    ) {
        let iid = Partition::iid(labels.len(), n_clients, &mut rng(seed)).unwrap();
        let sizes = sizes(&iid);
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);

        let rows: Vec<String> = labels.iter().map(u32::to_string).collect();
        let keys = keys(&rows.iter().map(String::as_str).collect::<Vec<_>>());
        let by_key = Partition::by_key(&keys, None).unwrap();
        assert_complete(&by_key, labels.len());
        for client in 0..by_key.n_clients() {
            let name = by_key.name(client);
            prop_assert!(by_key.examples(client).iter().all(|&example| rows[example as usize] == name));
        }

        let limited = Partition::by_key(&keys, Some(3)).unwrap();
        prop_assert_eq!(limited.n_examples() + limited.n_left_out(), labels.len());
        for client in 0..limited.n_clients() {
            let kept = limited.examples(client).len();
            prop_assert_eq!(kept, by_key.examples(client).len().min(3));
            prop_assert_eq!(limited.examples(client), &by_key.examples(client)[..kept]);
        }
    }
}
