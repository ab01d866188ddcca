#!/bin/bash
# Enrols this host with the controller and starts its agent; run inside a provisioned host.
# The join token comes on standard input. A host that was enrolled before, and whose certificate
# the controller does not take any more, is enrolled again.
set -euo pipefail

# shellcheck source=/dev/null
. /etc/longshore/host
data=/var/lib/longshore/agent

read -r token
# By the environment: arguments show in the list of processes.
LONGSHORE_JOIN_TOKEN=$token /usr/local/bin/node-agent join --controller "https://$CONTROLLER:7443" \
  --name "$NAME" --address "$IP" --role "$ROLE" --data-dir "$data"
# A running agent goes on with the certificate that it started with: a new start takes the new one.
if [ -d /run/systemd/system ]; then
  systemctl enable -q longshore-node-agent
  systemctl restart longshore-node-agent
elif [ -e /etc/service/node-agent ]; then
  sv restart node-agent >/dev/null
else
  ln -sfn /etc/sv/node-agent /etc/service/node-agent
fi
