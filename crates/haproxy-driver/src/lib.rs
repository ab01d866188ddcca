//! haproxy-driver
