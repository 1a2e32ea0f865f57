//! How often each client has taken part.

/// Counts participations, and leaves clients out that may not take part any more. A client enforces that by itself as well;
/// nobody else's chance changes.
pub(super) struct Participations {
    most: u64,
    counts: Vec<u64>,
}

impl Participations {
    /// At most `most` participations for each of `population` clients; nothing to count where a run has no more rounds.
    pub(super) fn new(most: Option<u64>, rounds: u64, population: u64) -> Option<Self> {
        let most = most.filter(|most| *most < rounds)?;
        let counts = vec![0; usize::try_from(population).ok()?];
        Some(Self { most, counts })
    }

    /// Takes the clients out of `cohort` that have used up their participations, and those beyond the first `room` that have not;
    /// counts one for each that is left.
    pub(super) fn admit(&mut self, cohort: &mut Vec<u64>, room: usize) {
        let mut admitted = 0;
        cohort.retain(|client| {
            let place = usize::try_from(*client).unwrap_or(usize::MAX);
            match self.counts.get_mut(place) {
                Some(count) if *count < self.most && admitted < room => {
                    *count += 1;
                    admitted += 1;
                    true
                }
                _ => false,
            }
        });
    }

    /// Takes back what [`admit`](Self::admit) counted: nothing was opened.
    pub(super) fn withdraw(&mut self, cohort: &[u64]) {
        for client in cohort {
            let place = usize::try_from(*client).unwrap_or(usize::MAX);
            if let Some(count) = self.counts.get_mut(place) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_part_more_often_than_it_may() {
        let mut participations = Participations::new(Some(2), 5, 3).unwrap();
        let cohorts = [
            vec![0, 1],
            vec![1, 2],
            vec![0, 1, 2],
            vec![0, 1, 2],
            vec![0, 1, 2],
        ];
        let admitted = cohorts.map(|mut cohort| {
            participations.admit(&mut cohort, 3);
            cohort
        });
        assert_eq!(admitted, [vec![0, 1], vec![1, 2], vec![0, 2], vec![], vec![]]);
        let mut participations = Participations::new(Some(1), 5, 3).unwrap();
        for _ in 0..3 {
            let mut cohort = vec![0, 2];
            participations.admit(&mut cohort, 3);
            participations.withdraw(&cohort);
            assert_eq!(cohort, [0, 2], "what was not opened does not count");
        }
        let admitted = [vec![0, 1, 2], vec![0, 1, 2]].map(|mut cohort| {
            participations.admit(&mut cohort, 2);
            cohort
        });
        assert_eq!(
            admitted,
            [vec![0, 1], vec![2]],
            "who found no room does not count"
        );
        assert!(Participations::new(Some(5), 5, 3).is_none() && Participations::new(None, 5, 3).is_none());
    }
}
