//! Leases that are to be renewed: asking all servers, and giving leases back to those that lack them.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::member::{Member, Place};
use super::quorum::Quorum;
use super::tally::{Outcome, Tally};
use crate::answer::Renewal;
use crate::backend::LockBackend as _;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::lease::Lease;
use crate::time::after;

/// Leases that the servers are asked to renew.
#[derive(Debug)]
pub(super) struct Renewals {
    pub(super) leases: Vec<Lease>,
}

type Heard = (usize, Place, Option<Result<Vec<Renewal>, LockError>>);

impl Renewals {
    /// Asks all servers, says what came of it as soon as that is certain for each lease, and ends when
    /// each server that lacks a renewed lease has it again.
    ///
    /// A server is given a lease back only after a majority has renewed it: then no other can hold it.
    pub(super) async fn decide(
        self,
        quorum: Arc<Quorum>,
        places: Vec<Result<Place, LockError>>,
        say: oneshot::Sender<Result<Vec<Renewal>, LockError>>,
    ) {
        let servers = quorum.members.len();
        let mut tallies = vec![Tally::default(); self.leases.len()];
        let mut failures = Vec::new();
        let mut say = Some(say);
        let (decide, decided) = watch::channel(false);
        // Of the servers that lack leases, which these are.
        let mut lacking: HashMap<usize, (Place, Vec<usize>)> = HashMap::new();
        // Of which it was said that they are lost.
        let mut given_up = Vec::new();
        let mut under_way = FuturesUnordered::new();
        let count_failure = |tallies: &mut Vec<Tally>| {
            tallies.iter_mut().for_each(|tally| tally.failed += 1);
        };
        for ((at, place), member) in places.into_iter().enumerate().zip(&quorum.members) {
            match place {
                Ok(place) => under_way.push(self.ask(member, at, place, decided.clone())),
                Err(error) => {
                    count_failure(&mut tallies);
                    failures.push((at, error));
                }
            }
        }
        // Leases in doubt must not keep the others of their batch from being answered in time.
        let patience = after(Instant::now(), quorum.response_timeout() / 4 * 3);
        loop {
            let outcomes: Vec<_> = tallies.iter().map(|tally| tally.outcome(servers)).collect();
            let answer = answer(&outcomes, Instant::now() >= patience);
            if let Some(answer) = answer
                && let Some(say) = say.take()
            {
                let answer =
                    answer.ok_or_else(|| quorum.failure(LockOperation::Renew, &failures, true));
                given_up = (0..outcomes.len())
                    .filter(|index| outcomes.get(*index) != Some(&Outcome::Yes))
                    .collect();
                decide.send_replace(true);
                let _ = say.send(answer);
            }
            let is = |index: &usize, outcome| outcomes.get(*index) == Some(&outcome);
            let settled: Vec<_> = lacking
                .iter()
                .filter(|(_, (_, leases))| !leases.iter().any(|index| is(index, Outcome::Open)))
                .map(|(at, _)| *at)
                .collect();
            for at in settled {
                let (Some((place, leases)), Some(member)) =
                    (lacking.remove(&at), quorum.members.get(at))
                else {
                    continue;
                };
                let held = leases.into_iter().filter(|index| is(index, Outcome::Yes));
                let held = held.filter(|index| !given_up.contains(index));
                let leases: Vec<_> = held.filter_map(|index| self.leases.get(index)).collect();
                // Without a token it was not granted by this backend.
                let leases: Vec<_> =
                    leases.into_iter().filter(|it| it.token.number() > 0).cloned().collect();
                if !leases.is_empty() {
                    under_way.push(restore(member, at, place, leases));
                }
            }
            let waits = say.is_some() && outcomes.iter().any(|it| *it != Outcome::Open);
            let (at, place, answers) = tokio::select! {
                biased;
                heard = under_way.next() => match heard {
                    Some(heard) => heard,
                    None => break,
                },
                () = tokio::time::sleep_until(patience), if waits && Instant::now() < patience => {
                    continue;
                }
            };
            match answers {
                None => {}
                Some(Ok(answers)) => {
                    let mut lacks = Vec::new();
                    for (index, (tally, renewal)) in tallies.iter_mut().zip(answers).enumerate() {
                        match renewal {
                            Renewal::Renewed => tally.yes += 1,
                            Renewal::NotOwner => tally.another += 1,
                            Renewal::Vanished => {
                                tally.nobody += 1;
                                lacks.push(index);
                            }
                        }
                    }
                    if !lacks.is_empty() {
                        lacking.insert(at, (place, lacks));
                    }
                }
                Some(Err(error)) => {
                    count_failure(&mut tallies);
                    failures.push((at, error));
                }
            }
        }
        debug_assert!(say.is_none(), "all have answered, and nothing is certain");
    }

    fn ask<'a>(
        &'a self,
        member: &'a Member,
        at: usize,
        place: Place,
        mut decided: watch::Receiver<bool>,
    ) -> BoxFuture<'a, Heard> {
        Box::pin(async move {
            tokio::select! {
                biased;
                () = place.come() => {}
                _ = decided.wait_for(|decided| *decided) => return (at, place, None),
            }
            let answers = async {
                let answers = member.lock(LockOperation::Renew).await?.renew(&self.leases).await?;
                if answers.len() == self.leases.len() {
                    Ok(answers)
                } else {
                    Err(LockError::new(LockErrorKind::Backend, LockOperation::Renew))
                }
            };
            (at, place, Some(answers.await))
        })
    }
}

fn restore(member: &Member, at: usize, place: Place, leases: Vec<Lease>) -> BoxFuture<'_, Heard> {
    Box::pin(async move {
        match member.restore(&leases).await {
            Ok(restored) => {
                tracing::debug!(server = member.name(), restored, "gave leases back to a server");
            }
            // The next renewal tries again.
            Err(error) => {
                tracing::debug!(server = member.name(), %error, "a server still lacks leases");
            }
        }
        (at, place, None)
    })
}

/// What to say by now: nothing yet, the answers, or that all is in doubt.
///
/// Where some leases are certain and others in doubt (which takes two faults at once: a server that lost
/// a lease, and another that does not answer), there is no answer that does justice to all. An error
/// would go on until the certain ones are lost too; so those in doubt are given up, once there was time
/// for a late answer.
#[expect(clippy::option_option, reason = "nothing yet, or nothing at all, or the answers")]
fn answer(outcomes: &[Outcome], is_late: bool) -> Option<Option<Vec<Renewal>>> {
    let is_certain = |outcome: &Outcome| !matches!(outcome, Outcome::Open | Outcome::InDoubt);
    let is_open = outcomes.contains(&Outcome::Open);
    let certain = outcomes.iter().filter(|outcome| is_certain(outcome)).count();
    if certain == 0 {
        return (!is_open).then_some(None);
    }
    if certain < outcomes.len() && is_open && !is_late {
        return None;
    }
    let answers = outcomes.iter().map(|outcome| match outcome {
        Outcome::Yes => Renewal::Renewed,
        Outcome::Another => Renewal::NotOwner,
        Outcome::Nobody | Outcome::Open | Outcome::InDoubt => Renewal::Vanished,
    });
    Some(Some(answers.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_in_doubt_do_not_take_the_certain_ones_with_them() {
        use Outcome::{Another, InDoubt, Nobody, Open, Yes};
        use Renewal::{NotOwner, Renewed, Vanished};
        for (outcomes, is_late, expected) in [
            (vec![Yes, Nobody, Another], false, Some(Some(vec![Renewed, Vanished, NotOwner]))),
            (vec![Yes, Open], false, None),
            (vec![Yes, Open], true, Some(Some(vec![Renewed, Vanished]))),
            (vec![Yes, InDoubt], false, Some(Some(vec![Renewed, Vanished]))),
            (vec![Open, Open], true, None),
            (vec![InDoubt, Open], true, None),
            (vec![InDoubt, InDoubt], false, Some(None)),
        ] {
            assert_eq!(answer(&outcomes, is_late), expected, "{outcomes:?}, {is_late}");
        }
    }
}
