package e2e

import (
	"testing"

	"github.com/tritond/triton/test/images"
)

func TestCommittedImageRuns(t *testing.T) {
	u := shared(t)
	ref := "committed" + randomHex() + ":one"
	t.Cleanup(func() { u.docker(t, "rmi", "-f", ref) })
	name := u.detached(t, "-v", u.volume(t)+":/vol", "-e", "A=of the container", "--label", "l=1", images.Busybox, "sh", "-c",
		"echo made >/made; ln /made /again; chown 5:6 /made; rm /etc/group; touch /etc/passwd; rm -r /tmp; mkdir /tmp; chmod 1700 /tmp; touch /vol/in-volume /ready; sleep 1000")
	eventually(t, commandTime, "the files", func() bool { return u.docker(t, "exec", name, "ls", "/ready").Code == 0 })
	id := u.ok(t, "commit", "-a", "somebody", "-m", "a message", "-c", `CMD ["cat", "/again"]`, "-c", "ENV B=changed", "-c", "LABEL m=2", name, ref)
	matches(t, "id", id, "^sha256:[0-9a-f]{64}$")
	equal(t, "goes on", u.inspect(t, name, "{{.State.Status}}"), "running")
	equal(t, "runs", u.ok(t, "run", "--rm", ref), "made")
	out := u.ok(t, "run", "--rm", ref, "sh", "-c", "stat -c '%u:%g %h' /made; stat -c %a /tmp; ls -A /tmp /vol; ls /etc; echo $A, $B; [ -s /etc/hosts ] && echo hosts")
	equal(t, "files", out, "5:6 2\n1700\n/tmp:\n\n/vol:\nhostname\nhosts\npasswd\nresolv.conf\nof the container, changed\nhosts")
	equal(t, "inspect", u.ok(t, "image", "inspect", "-f", "{{.Author}} {{.Comment}} {{.Config.Labels.l}}{{.Config.Labels.m}} {{.Id}}", ref), "somebody a message 12 "+id)
	matches(t, "history", u.ok(t, "history", "--format", "{{.Comment}}", ref), "^a message")

	stopped := u.name(t)
	u.ok(t, "run", "--name", stopped, ref, "sh", "-c", "echo second >/made")
	again := u.ok(t, "commit", stopped)
	t.Cleanup(func() { u.docker(t, "rmi", "-f", again) })
	equal(t, "a commit of a commit", u.ok(t, "run", "--rm", again, "cat", "/made"), "second")
	u.fails(t, 1, "No such container: nosuch", "commit", "nosuch")
	u.fails(t, 1, "(?i)bogus is not a valid change command", "commit", "-c", "BOGUS x", stopped)
}
