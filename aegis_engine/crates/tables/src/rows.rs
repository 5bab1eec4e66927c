//! Which rows of a table may be read.

use std::ops::Range;
use std::sync::Arc;

/// Row numbers as ascending runs that neither touch nor overlap. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows(Arc<[Range<u64>]>);

impl FromIterator<u64> for Rows {
    /// From ascending row numbers; a number that does not ascend is left out, so a wrong order only loses rows.
    fn from_iter<I: IntoIterator<Item = u64>>(rows: I) -> Self {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for row in rows {
            match runs.last_mut() {
                Some(run) if row == run.end => run.end += 1,
                Some(run) if row < run.end => {}
                _ => runs.push(row..row + 1),
            }
        }
        Self(runs.into())
    }
}

impl Rows {
    /// The runs.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Runs within `window`, cut to it.
    pub fn within(&self, window: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.0.partition_point(|run| run.end <= window.start);
        self.0[first..]
            .iter()
            .take_while(move |run| run.start < window.end)
            .map(move |run| run.start.max(window.start)..run.end.min(window.end))
    }

    /// Rows within `window`.
    pub fn count_within(&self, window: Range<u64>) -> u64 {
        self.within(window).map(|run| run.end - run.start).sum()
    }

    /// The row with `n` others of `window` in front of it.
    pub fn nth_within(&self, window: Range<u64>, mut n: u64) -> Option<u64> {
        for run in self.within(window) {
            let len = run.end - run.start;
            if n < len {
                return Some(run.start + n);
            }
            n -= len;
        }
        None
    }

    /// One more than the greatest row; 0 without rows.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |run| run.end)
    }

    /// Rows in all.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|run| run.end - run.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_runs_and_windows_cut_them() {
        let rows: Rows = [0, 1, 2, 5, 7, 8].into_iter().collect();
        assert_eq!(rows.runs(), [0..3, 5..6, 7..9]);
        assert_eq!(rows.within(2..8).collect::<Vec<_>>(), [2..3, 5..6, 7..8]);
        assert_eq!(
            (rows.count(), rows.count_within(3..5), rows.end()),
            (6, 0, 9)
        );
        let nth: Vec<_> = (0..5).map(|n| rows.nth_within(1..8, n)).collect();
        assert_eq!(nth, [Some(1), Some(2), Some(5), Some(7), None]);
    }
}
