//! What the agent's session holds of the data path.

use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_model::Names;
use tokio::sync::watch;

use super::Mesh;

/// What a session needs of the data path.
pub struct Handle {
    /// The directory goes in here, by [`Self::tell`].
    pub names: watch::Sender<Arc<Names>>,
    /// What does not work, and whom it trusts.
    pub mesh: Arc<Mesh>,
    /// Where other agents reach this one; 0: they do not.
    pub peer_port: u16,
}

impl Handle {
    /// From now on this is the directory. Addresses are moved to this node's own range; one for which
    /// there is no room stays as it is, which the listener says.
    pub fn tell(&self, names: &Names) {
        let trust = self.mesh.trust();
        let news = names.revoked.iter().filter(|s| !trust.is_revoked(s));
        let news: Vec<String> = news.cloned().collect();
        // Each word of it wakes all that is live.
        if !news.is_empty() {
            trust.revoke(news);
        }
        let range = self.mesh.range();
        let place = |address: &mut Ipv4Addr| *address = range.place(*address).unwrap_or(*address);
        let mut names = names.clone();
        for named in names.services.values_mut() {
            place(&mut named.address);
            named.hosts.values_mut().for_each(place);
        }
        self.names.send_replace(Arc::new(names));
    }
}
