//! What operators ask: which groups there are, what is in them, and that they go.

use millstream_log::Permit;

use super::live::Group;
use super::rows::group::GroupEffect;
use super::turn::Turn;
use super::{GroupError, GroupInfo, GroupState, GroupSummary, MemberInfo};

impl Turn<'_, '_> {
    /// The group in full. What members said and were given is shown of a stable group only, as in Apache Kafka: else it is on its way
    /// out.
    pub fn describe(&self, g: &Group) -> GroupInfo {
        let stable = g.state == GroupState::Stable;
        let members = g.members().iter().map(|(id, m)| MemberInfo {
            member: id.as_ref().to_owned(),
            instance: m.meta.instance.clone(),
            client_id: m.meta.client_id.clone(),
            client_host: m.meta.client_host.clone(),
            metadata: if stable { m.meta.metadata(&g.protocol) } else { bytes::Bytes::new() },
            assignment: if stable { m.assignment.clone() } else { bytes::Bytes::new() },
        });
        let offsets = g.object.into_iter().flat_map(|object| self.core.rows.offsets_of(object));
        GroupInfo {
            summary: summary(g),
            generation: g.generation,
            protocol: if stable { g.protocol.clone() } else { String::new() },
            members: members.collect(),
            offsets: offsets.map(|(k, r)| (k.log, r.committed.clone())).collect(),
        }
    }

    /// Removes groups that have no members, in one record. `groups` are those that exist; false: no room now.
    pub fn delete(&mut self, groups: &mut [&mut Group], permit: Option<Permit>) -> Result<bool, GroupError> {
        let gone = groups.iter().filter_map(|g| Some((g.object?, &g.key)));
        let effects: Vec<_> = gone.map(|(object, key)| GroupEffect::Gone { object }.on(key)).collect();
        if !effects.is_empty() && !self.recorded(permit, &effects, None)? {
            return Ok(false);
        }
        for g in groups {
            g.object = None;
            self.expiry_at(g, None);
            while let Some((id, _)) = g.pending.first_key_value() {
                let id = id.clone();
                self.forget_pending(g, &id);
            }
        }
        Ok(true)
    }
}

/// The group at a glance.
pub(super) fn summary(g: &Group) -> GroupSummary {
    GroupSummary { group: g.key.name.clone(), protocol_type: g.protocol_type.clone(), state: g.state }
}
