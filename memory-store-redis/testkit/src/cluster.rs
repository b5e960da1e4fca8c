use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::port::BUS;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::wait::until;

const SLOTS: usize = 16_384;

/// The shape of a [`Cluster`]. Default: three masters, each with one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterShape {
    /// The number of nodes that share the slots. A failover needs three.
    pub masters: usize,
    /// The number of replicas of each of them.
    pub replicas: usize,
    /// Whether clients reach each node through a [`Proxy`] only. Default: no.
    pub proxied: bool,
}

/// A Redis Cluster on loopback, healthy when its start returns.
///
/// A node is a [`Server`]: kill it, pause it and start it again there. A master that restarts before
/// its replica took over is empty, and the replica follows it.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
    ids: Vec<String>,
    proxies: Vec<Proxy>,
    shape: ClusterShape,
}

/// One line of `CLUSTER NODES`: how a node sees another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    id: String,
    /// The master that it follows, if it is a replica.
    master: Option<String>,
    is_well: bool,
    slots: Vec<(usize, usize)>,
}

impl Default for ClusterShape {
    fn default() -> Self {
        Self { masters: 3, replicas: 1, proxied: false }
    }
}

impl Cluster {
    /// Starts three masters, each with one replica.
    ///
    /// # Panics
    ///
    /// If it is not healthy within 30 s.
    pub async fn start() -> Self {
        Self::start_with(ClusterShape::default()).await
    }

    /// Starts a Cluster of another shape.
    ///
    /// # Panics
    ///
    /// Like [`start`](Self::start), and if the shape has no master.
    pub async fn start_with(shape: ClusterShape) -> Self {
        assert!(shape.masters > 0, "a Cluster needs a master");
        let count = shape.masters * (1 + shape.replicas);
        let started = join_all((0..count).map(|_| start_node(&shape))).await;
        let (nodes, proxies): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        let ids = join_all(nodes.iter().map(|node| node.query(&["CLUSTER", "MYID"]))).await;
        let proxies = proxies.into_iter().flatten().collect();
        let cluster = Self { nodes, ids, proxies, shape };
        cluster.introduce().await;
        cluster.assign().await;
        cluster.wait_until_healthy().await;
        cluster
    }

    /// `redis+cluster://127.0.0.1:<port>,127.0.0.1:<port>,...`, of all nodes, or of their proxies.
    #[must_use]
    pub fn url(&self) -> String {
        let own = self.nodes.iter().map(Server::port);
        let ports: Vec<u16> = if self.proxies.is_empty() {
            own.collect()
        } else {
            self.proxies.iter().map(Proxy::port).collect()
        };
        let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// All nodes; at first the masters, then the replicas.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The links to the nodes, in the same order; none unless they were requested.
    #[must_use]
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// The calls of each command on all running nodes; see [`Server::command_counts`].
    ///
    /// # Panics
    ///
    /// If a running node does not answer.
    pub async fn command_counts(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for counts in join_all(self.running().map(Server::command_counts)).await {
            for (name, calls) in counts {
                *sum.entry(name).or_default() += calls;
            }
        }
        sum
    }

    /// Resets the counts on all running nodes.
    ///
    /// # Panics
    ///
    /// If a running node does not answer.
    pub async fn reset_stats(&self) {
        join_all(self.running().map(Server::reset_stats)).await;
    }

    /// The node that owns this slot, once all running nodes agree on one that runs.
    ///
    /// # Panics
    ///
    /// If that takes more than 30 s.
    pub async fn master_of(&self, slot: u16) -> &Server {
        until("common owner of the slot", async || {
            let id = owner(&self.common_view().await?, slot)?;
            let node = self.node(&id).ok_or_else(|| format!("unknown node {id}"))?;
            if node.is_running() { Ok(node) } else { Err(format!("its owner {id} is down")) }
        })
        .await
    }

    /// Waits until all running nodes see the same Cluster, all slots are served, and the running
    /// replicas are in sync. Nodes that were killed may stay stopped.
    ///
    /// # Panics
    ///
    /// If that takes more than 30 s.
    pub async fn wait_until_healthy(&self) {
        until("healthy Cluster", async || self.health().await).await;
    }

    /// Makes a replica the master of this slot's node, in agreement with it, and returns the new one.
    ///
    /// # Panics
    ///
    /// If the master has no running replica, or the change takes more than 30 s.
    pub async fn fail_over(&self, slot: u16) -> &Server {
        let old = self.master_of(slot).await;
        // A repeated request starts over, so there must be time in between; but a replica that was not yet in
        // sync when it was asked has to be asked again.
        let asked = Mutex::new(None::<Instant>);
        until("failover", async || {
            let view = self.common_view().await?;
            let master = owner(&view, slot)?;
            let now = self.node(&master).ok_or_else(|| format!("unknown node {master}"))?;
            if now.port() != old.port() {
                return Ok(());
            }
            let before = *asked.lock().unwrap_or_else(PoisonError::into_inner);
            if before.is_some_and(|asked| asked.elapsed() < Duration::from_secs(3)) {
                return Err("still the old one".to_owned());
            }
            let replicas = view.iter().filter(|seen| seen.master.as_ref() == Some(&master));
            let replica = replicas
                .filter_map(|seen| self.node(&seen.id))
                .find(|node| node.is_running())
                .ok_or("its master has no running replica")?;
            *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            let answer: redis::RedisResult<()> = replica.try_query(&["CLUSTER", "FAILOVER"]).await;
            Err(format!("still the old one; CLUSTER FAILOVER: {answer:?}"))
        })
        .await;
        self.wait_until_healthy().await;
        self.master_of(slot).await
    }

    /// Moves a slot with its keys to another master as an operator does, one key after the other:
    /// clients are sent back and forth with `ASK` while it lasts, and with `MOVED` afterwards.
    ///
    /// # Panics
    ///
    /// If a node refuses a step of it.
    pub async fn migrate_slot(&self, slot: u16, to: &Server) {
        let from = self.master_of(slot).await;
        if from.port() == to.port() {
            return;
        }
        let (from_id, to_id) = (self.id(from), self.id(to));
        let (name, port) = (slot.to_string(), to.port().to_string());
        to.command(&["CLUSTER", "SETSLOT", &name, "IMPORTING", from_id]).await;
        from.command(&["CLUSTER", "SETSLOT", &name, "MIGRATING", to_id]).await;
        loop {
            let keys: Vec<String> = from.query(&["CLUSTER", "GETKEYSINSLOT", &name, "10"]).await;
            if keys.is_empty() {
                break;
            }
            for key in keys {
                from.command(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]).await;
            }
        }
        // The new owner is set first; otherwise a crash in between would leave the slot without an owner.
        for node in [to, from] {
            node.command(&["CLUSTER", "SETSLOT", &name, "NODE", to_id]).await;
        }
        until("new owner of the slot", async || {
            let id = owner(&self.common_view().await?, slot)?;
            if id == to_id { Ok(()) } else { Err(format!("it is still {id}")) }
        })
        .await;
    }

    /// Every node learns of every other at once, instead of gradually by gossip.
    async fn introduce(&self) {
        // A node that already knows another refuses its epoch.
        for (epoch, node) in self.nodes.iter().enumerate() {
            let epoch = (epoch + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        for node in &self.nodes {
            for (other, peer) in
                self.nodes.iter().enumerate().filter(|(_, it)| it.port() != node.port())
            {
                let port = self.proxies.get(other).map_or(peer.port(), Proxy::port).to_string();
                let bus = (peer.port() + BUS).to_string();
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            }
        }
    }

    async fn assign(&self) {
        let masters = self.shape.masters;
        for (index, node) in self.nodes.iter().take(masters).enumerate() {
            let slots = index * SLOTS / masters..(index + 1) * SLOTS / masters;
            let slots: Vec<_> = slots.map(|slot| slot.to_string()).collect();
            let command =
                ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
            node.command(&command.collect::<Vec<_>>()).await;
        }
        let ids: BTreeSet<_> = self.ids.iter().cloned().collect();
        until("acquaintance of all nodes", async || {
            for node in &self.nodes {
                let known: BTreeSet<_> =
                    view(node).await?.into_iter().map(|seen| seen.id).collect();
                if known != ids {
                    return Err(format!("{} knows {known:?}", node.url()));
                }
            }
            Ok(())
        })
        .await;
        let replicas = self.nodes.iter().skip(masters);
        for (replica, master) in replicas.zip(self.ids.iter().take(masters).cycle()) {
            replica.command(&["CLUSTER", "REPLICATE", master]).await;
        }
    }

    async fn health(&self) -> Result<(), String> {
        let running: Vec<_> = self.running().collect();
        for node in &running {
            let info: String =
                node.try_query(&["CLUSTER", "INFO"]).await.map_err(|error| error.to_string())?;
            if !info.contains("cluster_state:ok") || !info.contains("cluster_slots_ok:16384") {
                return Err(format!("{} says {info}", node.url()));
            }
        }
        let view = self.common_view().await?;
        for node in &running {
            let id = self.id(node);
            let seen = view.iter().find(|seen| seen.id == id);
            let seen = seen.filter(|seen| seen.is_well).ok_or_else(|| format!("{id} is unwell"))?;
            let info = node.info("replication").await?;
            let link = info.get("master_link_status").map_or("none", String::as_str);
            let wanted = if seen.master.is_some() { "up" } else { "none" };
            if link != wanted {
                return Err(format!("the link of {id} to its master is {link}, not {wanted}"));
            }
        }
        let roles = view.iter().filter(|seen| seen.is_well && seen.master.is_none());
        let masters = roles.filter(|seen| !seen.slots.is_empty()).count();
        let well = view.iter().filter(|seen| seen.is_well).count();
        let replicas = running.len().saturating_sub(self.shape.masters);
        if masters == self.shape.masters && well - masters == replicas {
            Ok(())
        } else {
            Err(format!("{masters} masters, {} others: {view:?}", well - masters))
        }
    }

    /// The view that all running nodes share of the Cluster, if they agree.
    async fn common_view(&self) -> Result<Vec<Seen>, String> {
        let views = join_all(self.running().map(view)).await;
        let mut views = views.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
        let first = views.next().ok_or("no node runs")?;
        match views.find(|other| *other != first) {
            None => Ok(first),
            Some(other) => Err(format!("one sees {first:?}, another {other:?}")),
        }
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    fn node(&self, id: &str) -> Option<&Server> {
        self.ids.iter().position(|known| known == id).and_then(|at| self.nodes.get(at))
    }

    fn id(&self, node: &Server) -> &str {
        let at = self.nodes.iter().position(|known| known.port() == node.port());
        at.and_then(|at| self.ids.get(at)).expect("a node of this Cluster")
    }
}

async fn start_node(shape: &ClusterShape) -> (Server, Option<Proxy>) {
    // The node announces its address to clients and other nodes, so its link must exist first.
    let proxy = if shape.proxied { Some(Proxy::to_nowhere().await) } else { None };
    let announced = proxy.as_ref().map(Proxy::port);
    let node = Server::start_by(|port, dir| {
        let mut args = vec![
            ("--port", port.to_string()),
            ("--bind", "127.0.0.1".to_owned()),
            ("--dir", dir.display().to_string()),
            ("--save", String::new()),
            ("--cluster-enabled", "yes".to_owned()),
            ("--cluster-node-timeout", "1000".to_owned()),
            ("--cluster-allow-replica-migration", "no".to_owned()),
            // The default waits 5 s for more replicas before the first is served.
            ("--repl-diskless-sync-delay", "0".to_owned()),
        ];
        if let Some(announced) = announced {
            args.push(("--cluster-announce-port", announced.to_string()));
            args.push(("--cluster-announce-bus-port", (port + BUS).to_string()));
        }
        args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    })
    .await;
    if let Some(proxy) = &proxy {
        proxy.lead_to(format!("127.0.0.1:{}", node.port()));
    }
    (node, proxy)
}

/// The view of a node on the Cluster, including itself.
async fn view(node: &Server) -> Result<Vec<Seen>, String> {
    let text: String =
        node.try_query(&["CLUSTER", "NODES"]).await.map_err(|error| error.to_string())?;
    let mut view: Vec<_> = text.lines().filter_map(seen).collect();
    view.sort();
    Ok(view)
}

/// `<id> <address> <flags> <master> <ping> <pong> <epoch> <link> <slot> ...`
fn seen(line: &str) -> Option<Seen> {
    let mut words = line.split(' ');
    let id = words.next()?.to_owned();
    let flags: Vec<_> = words.nth(1)?.split(',').collect();
    let master = words.next().filter(|master| *master != "-").map(ToOwned::to_owned);
    let ill = ["fail", "fail?", "handshake", "noaddr"];
    let is_well = !flags.iter().any(|flag| ill.contains(flag));
    // A slot that is being moved is in brackets.
    let slots = words.skip(4).filter(|slots| !slots.starts_with('['));
    let range = |slots: &str| {
        let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    Some(Seen { id, master, is_well, slots: slots.filter_map(range).collect() })
}

fn owner(view: &[Seen], slot: u16) -> Result<String, String> {
    let owns = |seen: &&Seen| {
        seen.slots.iter().any(|&(first, last)| (first..=last).contains(&usize::from(slot)))
    };
    let owner = view.iter().find(owns).map(|seen| seen.id.clone());
    owner.ok_or_else(|| format!("slot {slot} has no owner"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_cluster_nodes_is_parsed() {
        let master =
            "07c3 127.0.0.1:30004@31004,host master,fail? - 0 14 4 connected 5461 0-9 [93-<-292f]";
        let expected = Seen {
            id: "07c3".to_owned(),
            master: None,
            is_well: false,
            slots: vec![(5461, 5461), (0, 9)],
        };
        assert_eq!(seen(master), Some(expected.clone()));
        assert_eq!(owner(std::slice::from_ref(&expected), 9).as_deref(), Ok("07c3"));
        assert!(owner(&[expected], 93).is_err());
        let replica = seen("67ed 127.0.0.1:30002@31002 myself,slave 07c3 0 14 2 connected");
        assert!(replica.is_some_and(|it| it.is_well && it.master.as_deref() == Some("07c3")));
    }
}
