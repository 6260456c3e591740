//! A network of one name space per node, on a bridge. What a fault does, it does to packets: in the receiver's name space, counted.

use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// Of the bridge: how the test itself reaches the nodes, and they its proxies.
pub(super) const HUB: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 254);

/// The name spaces of all nodes. They belong to the sandbox, and end with it.
#[derive(Debug)]
pub(super) struct Network {
    nodes: usize,
}

/// A directed link: packets from one node to another.
pub(super) type Link = (usize, usize);

impl Network {
    /// Makes the bridge and so many name spaces, `n1` and so on.
    ///
    /// # Errors
    /// A tool is missing, or the kernel refuses.
    pub(super) fn new(nodes: usize) -> Result<Self> {
        ip("link set lo up")?;
        ip("link add hub type bridge")?;
        ip("link set hub up")?;
        ip(&format!("addr add {HUB}/24 dev hub"))?;
        for node in 0..nodes {
            let name = name(node);
            ip(&format!("netns add {name}"))?;
            ip(&format!("link add v{name} type veth peer name eth0 netns {name}"))?;
            ip(&format!("link set v{name} master hub up"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            ip(&format!("-n {name} addr add {}/24 dev eth0", address(node)))?;
            restore(
                node,
                "*filter\n:CUT - [0:0]\n:LOSE - [0:0]\n-A INPUT -j CUT\n-A INPUT -j LOSE\nCOMMIT\n",
            )?;
        }
        Ok(Self { nodes })
    }

    /// Cuts exactly these links; all others are whole again. A new cut counts from zero.
    ///
    /// # Errors
    /// The firewall does not take the rules.
    pub(super) fn cut(&self, links: &[Link]) -> Result<()> {
        for to in 0..self.nodes {
            // Naming a chain empties it, in the same step as it is filled.
            let mut rules = "*filter\n:CUT - [0:0]\n".to_owned();
            for (from, _) in links.iter().filter(|link| link.1 == to) {
                writeln!(rules, "-A CUT -s {} -j DROP", address(*from))?;
            }
            rules.push_str("COMMIT\n");
            restore(to, &rules)?;
        }
        Ok(())
    }

    /// Makes all links between nodes whole.
    ///
    /// # Errors
    /// As [`Network::cut`].
    pub(super) fn mend(&self) -> Result<()> {
        self.cut(&[])
    }

    /// Loses this share of all packets that reach a node from outside; 0 loses none.
    ///
    /// # Errors
    /// The firewall does not take the rules.
    pub(super) fn lose(&self, share: f64) -> Result<()> {
        for to in 0..self.nodes {
            let mut rules = "*filter\n:LOSE - [0:0]\n".to_owned();
            // Whatever arrives: what comes through a proxy has the proxy's address.
            if share > 0.0 {
                writeln!(
                    rules,
                    "-A LOSE -i eth0 -m statistic --mode random --probability {share:.4} -j DROP"
                )?;
            }
            rules.push_str("COMMIT\n");
            restore(to, &rules)?;
        }
        Ok(())
    }

    /// Sends what a node sends to an address and port through another address and port.
    ///
    /// # Errors
    /// The firewall does not take the rule.
    pub(super) fn divert(&self, node: usize, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Result<()> {
        let rule = format!(
            "*nat\n-A OUTPUT -p tcp -d {} --dport {} -j DNAT --to-destination {}:{}\nCOMMIT\n",
            from.0, from.1, to.0, to.1
        );
        restore(node, &rule)
    }

    /// How many packets the cut has dropped, over all nodes.
    ///
    /// # Errors
    /// The firewall does not tell.
    pub(super) fn cut_packets(&self) -> Result<u64> {
        self.dropped("CUT")
    }

    /// How many packets were lost.
    ///
    /// # Errors
    /// The firewall does not tell.
    pub(super) fn lost_packets(&self) -> Result<u64> {
        self.dropped("LOSE")
    }

    fn dropped(&self, chain: &str) -> Result<u64> {
        let mut packets = 0;
        for node in 0..self.nodes {
            let mut list = inside(node);
            list.args(["iptables", "-w", "-nvxL", chain]);
            let listed = output(list)?;
            for rule in listed.lines().filter(|line| line.contains(" DROP ")) {
                let count = rule.split_whitespace().next().context("a rule without a count")?;
                packets += count.parse::<u64>().with_context(|| rule.to_owned())?;
            }
        }
        Ok(packets)
    }
}

/// A node's name, which is that of its name space.
pub(super) fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

/// A node's address.
pub(super) fn address(node: usize) -> Ipv4Addr {
    // The scenarios have at most seven nodes.
    Ipv4Addr::new(10, 99, 0, u8::try_from(node + 1).unwrap_or(u8::MAX))
}

/// What comes before a command that shall run in a node's name space.
pub(super) fn prefix(node: usize) -> Vec<String> {
    vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", name(node))]
}

fn inside(node: usize) -> Command {
    let prefix = prefix(node);
    let mut command = Command::new(&prefix[0]);
    command.args(&prefix[1..]);
    command
}

fn ip(arguments: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace());
    output(command).map(drop)
}

/// Takes rules all at once, beside those that are there.
fn restore(node: usize, rules: &str) -> Result<()> {
    let mut command = inside(node);
    command.args(["iptables-restore", "-w", "--noflush"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("a pipe")?.write_all(rules.as_bytes())?;
    let done = child.wait_with_output()?;
    ensure!(
        done.status.success(),
        "iptables-restore in {}: {}\n{rules}",
        name(node),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// Runs a tool and returns what it printed.
pub(super) fn output(mut command: Command) -> Result<String> {
    let line = format!("{command:?}");
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {line}"))?;
    if !done.status.success() {
        bail!("{line}: {}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Every ordered pair of one of `left` and one of `right`, in both directions.
pub(super) fn between(left: &[usize], right: &[usize]) -> Vec<Link> {
    let pairs = left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}
