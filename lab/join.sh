#!/bin/bash
# Enrols this host with the controller and starts its agent; run inside a provisioned host.
# The join token comes on standard input. A host that is enrolled already is left alone.
set -euo pipefail

# shellcheck source=/dev/null
. /etc/longshore/host
data=/var/lib/longshore/agent

if [ ! -f "$data/identity/cert.pem" ]; then
  read -r token
  # By the environment: arguments show in the list of processes.
  LONGSHORE_JOIN_TOKEN=$token /usr/local/bin/node-agent join --controller "https://$CONTROLLER:7443" \
    --name "$NAME" --address "$IP" --role "$ROLE" --data-dir "$data"
fi
if [ -d /run/systemd/system ]; then
  systemctl enable -q --now longshore-node-agent
else
  ln -sfn /etc/sv/node-agent /etc/service/node-agent
fi
