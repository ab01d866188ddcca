use proptest::prelude::*;

use super::*;

/// As HAProxy 2.6.12 wrote it.
const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state \
    srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result \
    srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn \
    srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n\
    3 be_a 1 slot1 127.0.0.1 0 0 1 1 1 8 2 0 6 0 0 0 - 18098 - 0 0 - - 0\n\
    3 be_a 2 slot2 127.0.0.1 2 12 1 1 0 1 0 2 6 0 0 0 - 18097 - 0 0 - - 0\n\
    3 be_a 3 slot9 127.0.0.1 0 1 1 1 0 1 0 0 2 0 0 0 - 1 - 0 0 - - 0\n\
    3 be_a 4 other 127.0.0.1 0 1 1 1 0 1 0 0 2 0 0 0 - 1 - 0 0 - - 0\n";

#[test]
fn states_are_read_by_the_names_of_their_columns() {
    let running = servers_state(STATE);
    let pool = &running.backends["be_a"];
    assert_eq!(pool.len(), 3, "a server that is no slot was taken");
    let (down, draining, added) = (&pool[&1], &pool[&2], &pool[&9]);
    assert_eq!(
        (down.admin, down.up, down.port),
        (ServerAdmin::Ready, false, 18098)
    );
    assert_eq!(
        (draining.admin, draining.up, draining.check_health),
        (ServerAdmin::Drain, true, 2)
    );
    assert_eq!(
        (added.admin, added.check_enabled),
        (ServerAdmin::Maint, false)
    );
    assert!(down.check_enabled);
    assert_eq!(
        state_line_enabled(&running.header, &draining.line).unwrap(),
        "3 be_a 2 slot2 127.0.0.1 2 0 1 1 0 1 0 2 6 0 0 0 - 18097 - 0 0 - - 0"
    );
}

#[test]
fn processes_are_read_by_section() {
    let text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
        1162            master          5 [failed: 1]   0d00h02m07s     2.6.12\n\
        # workers\n1271            worker          1               0d00h00m00s     2.6.12\n\
        # old workers\n1233            worker          3               0d00h00m43s     2.6.12\n\
        # programs\n\n";
    let expected = Processes {
        master: 1162,
        workers: vec![1271],
        old_workers: vec![1233],
        oldest_reloads: 3,
        failed_reloads: 1,
    };
    assert_eq!(processes(text), expected);
}

#[test]
fn statistics_are_read_by_the_names_of_their_columns() {
    let text = "# pxname,svname,qcur,scur,rate,stot,req_tot,hrsp_5xx,econ,rtime,addr,\n\
        be_a,slot1,1,2,3,4,,,5,6,127.0.0.1:9,\nbe_a,BACKEND,1,2,3,4,7,8,5,6,,\n\n";
    let lines = stat(text);
    assert_eq!(
        lines[0].load,
        Load {
            sessions: 2,
            queued: 1
        }
    );
    assert_eq!(
        (lines[0].address.as_str(), lines[0].requests_total),
        ("127.0.0.1:9", None)
    );
    assert_eq!(
        (lines[1].requests_total, lines[1].errors_total),
        (Some(7), Some(8))
    );
    assert!(stat("Unknown command").is_empty());
}

/// Text that looks like an answer, cut and mixed.
fn almost() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(STATE.to_owned()),
        "[ -~\n]{0,60}",
        Just("# be_name srv_name srv_port\n".to_owned()),
        Just("# pxname,svname,\"\n".to_owned()),
        Just("Pid: 99999999999\n# workers\n1 worker\n".to_owned()),
        any::<String>(),
    ];
    (prop::collection::vec(piece, 0..4), 0usize..400)
        .prop_map(|(pieces, cut)| pieces.concat().chars().skip(cut).collect())
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in almost()) {
        let running = servers_state(&text);
        let _ = state_line_enabled(&running.header, &text);
        let _ = (stat(&text), info(&text), processes(&text));
    }
}
