package bpf

// The objects are committed; CI regenerates them and fails on a difference. clang 14 is what Debian 12 has: another
// version gives other bytes.
//go:generate go tool bpf2go -target amd64 -type event -type slot -type cell -type ring -type call -type accept_delay -type queued -type delay_key -type disk_key -type disk_totals -output-stem measure Measure measure.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type exit_record -type sender -output-stem exits Exits exits.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type resolver -output-stem resolver Resolver resolver.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type peer_key -type peer_totals -type connection -type container_peers -type drop_key -output-stem peers Peers peers.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type network_totals -output-stem network Network network.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type stack_key -type stack -type count_key -type count -type lost -type use -type sleeper -output-stem profile Profile profile.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type traced_call -output-stem trace Trace trace.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type answer -output-stem asksyscalls AskSyscalls asksyscalls.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type answer -output-stem askblock AskBlock askblock.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type answer -output-stem askrunqueue AskRunQueue askrunqueue.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type answer -output-stem asktcp AskTCP asktcp.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -target amd64 -type question -type waiting_key -type waiting -type dns_totals -type name_counts -type streams -output-stem names Names names.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
