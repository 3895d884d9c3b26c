//! What a caller may do, as the bit sets that Metadata, DescribeTopicPartitions and DescribeCluster report (KIP-430).
//!
//! Invariants: bit = 1 << operation code (`org.apache.kafka.common.acl.AclOperation`). Without an authorizer a caller
//! may do everything the resource supports, so the sets are constants.

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// The value of the field when the caller did not ask.
pub const NOT_ASKED: i32 = i32::MIN;

/// Every operation on a topic.
pub const TOPIC: i32 = READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;

/// Every operation on the cluster.
pub const CLUSTER: i32 =
    CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;

/// `allowed` if the caller asked, else [`NOT_ASKED`].
pub fn if_asked(asked: bool, allowed: i32) -> i32 {
    if asked { allowed } else { NOT_ASKED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_kafkas() {
        // What a 4.3 broker without an authorizer answers.
        assert_eq!(TOPIC, 3576);
        assert_eq!(CLUSTER, 8096);
        assert_eq!(if_asked(false, TOPIC), -2147483648);
    }
}
