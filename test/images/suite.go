package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// aptOf returns what has apt-get look into one suite alone, from where the machine's own packages come, with lists of its
// own below cache: nothing on the machine changes. The lists are fetched once. None for the machine's own suites.
func aptOf(ctx context.Context, suite, cache string) ([]string, error) {
	if suite == "" {
		return nil, nil
	}
	dir, err := filepath.Abs(filepath.Join(cache, "apt-"+suite))
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	sources, fetched := filepath.Join(dir, "sources.list"), filepath.Join(dir, "fetched")
	options := []string{
		"-o", "Dir::Etc::sourcelist=" + sources, "-o", "Dir::Etc::sourceparts=-", "-o", "Dir::State::lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::Cache=" + dir, "-o", "APT::Default-Release=" + suite,
	}
	if _, err := os.Stat(fetched); !errors.Is(err, fs.ErrNotExist) {
		return options, err
	}
	site, err := debianSite(ctx)
	if err != nil {
		return nil, err
	}
	line := fmt.Sprintf("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", site, suite)
	if err := os.WriteFile(sources, []byte(line), 0o644); err != nil {
		return nil, err
	}
	args := append([]string{"-qq", "-o", "APT::Sandbox::User=root"}, append(options, "update")...)
	if out, err := exec.CommandContext(ctx, "apt-get", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("fetch the package lists of %s: %w\n%s", suite, err, out)
	}
	return options, os.WriteFile(fetched, nil, 0o644)
}

// debianSite is where the machine has Debian's own packages from.
func debianSite(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(RELEASE) $(SITE)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("list the sources of packages: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "Debian" && f[1] == "main" && !strings.Contains(f[2], "-") {
			return f[3], nil
		}
	}
	return "", fmt.Errorf("the machine has no source of Debian's packages among:\n%s", out)
}
