//! Random packet loss on a host, by the packet filter's `statistic` match.

use crate::{Host, Result};

impl Host {
    /// Loses `percent` of the arriving packets that fit the iptables arguments `matching`.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) when the packet filter refuses the rule.
    pub fn drop_incoming(&self, percent: f64, matching: &[&str]) -> Result<()> {
        self.drop_at("PREROUTING", percent, matching)
    }

    /// Loses `percent` of the packets sent by this host that fit the iptables arguments.
    ///
    /// # Errors
    /// As [`drop_incoming`](Self::drop_incoming).
    pub fn drop_outgoing(&self, percent: f64, matching: &[&str]) -> Result<()> {
        self.drop_at("OUTPUT", percent, matching)
    }

    /// How many packets were lost by what was asked for here so far.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) when the packet filter does not tell.
    pub fn lost_packets(&self) -> Result<u64> {
        let mut lost = 0;
        for program in ["iptables", "ip6tables"] {
            let list = ["-t", "raw", "-L", "-v", "-n", "-x"];
            let text = self.command(program).args(list).run()?.stdout;
            let rules = text.lines().filter(|line| line.contains(" DROP "));
            let packets = |rule: &str| rule.split_whitespace().next()?.parse::<u64>().ok();
            lost += rules.filter_map(packets).sum::<u64>();
        }
        Ok(lost)
    }

    /// Ends all loss on this host.
    ///
    /// # Errors
    /// As [`drop_incoming`](Self::drop_incoming).
    pub fn lose_nothing(&self) -> Result<()> {
        for program in ["iptables", "ip6tables"] {
            self.command(program).args(["-t", "raw", "-F"]).run()?;
        }
        Ok(())
    }

    fn drop_at(&self, chain: &str, percent: f64, matching: &[&str]) -> Result<()> {
        let probability = format!("{:.6}", percent / 100.0);
        for program in ["iptables", "ip6tables"] {
            self.command(program)
                .args(["-t", "raw", "-A", chain])
                .args(matching)
                .args([
                    "-m",
                    "statistic",
                    "--mode",
                    "random",
                    "--probability",
                    &probability,
                ])
                .args(["-j", "DROP"])
                .run()?;
        }
        Ok(())
    }
}
