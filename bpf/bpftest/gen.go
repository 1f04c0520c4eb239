package bpftest

//go:generate go tool bpf2go -target amd64 -type accept_delay -type queued -output-stem functions Functions functions.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I.. -I/usr/include/x86_64-linux-gnu

//go:generate go tool bpf2go -target amd64 -type stack -type stack_key -type count -type lost -type use -type sleeper -output-stem profile Profile profile.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I.. -I/usr/include/x86_64-linux-gnu

//go:generate go tool bpf2go -target amd64 -type disk_key -type disk_totals -type delay_key -type cpu_runs -type slot -output-stem sums Sums sums.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I.. -I/usr/include/x86_64-linux-gnu

//go:generate go tool bpf2go -target amd64 -type answer -output-stem ask Ask ask.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I.. -I/usr/include/x86_64-linux-gnu

//go:generate go tool bpf2go -target amd64 -type peer_key -type peer_totals -type container_peers -type drop_key -output-stem peers Peers peers.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I.. -I/usr/include/x86_64-linux-gnu

//go:generate go tool bpf2go -target amd64 -type question -type waiting_key -type waiting -type dns_totals -type name_counts -type streams -output-stem names Names names.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I.. -I/usr/include/x86_64-linux-gnu
