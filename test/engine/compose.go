package engine

import (
	"fmt"
	"os"
	"path/filepath"
)

// AddCompose gives the docker client with a configuration folder the compose plugin of the repository at repo.
func AddCompose(repo, configDir string) error {
	plugin := filepath.Join(repo, ".cache", "bin", "docker-compose")
	if _, err := os.Stat(plugin); err != nil {
		return fmt.Errorf("the compose plugin is not built, `make compose` does: %w", err)
	}
	plugins := filepath.Join(configDir, "cli-plugins")
	if err := os.MkdirAll(plugins, 0o700); err != nil {
		return err
	}
	return os.Symlink(plugin, filepath.Join(plugins, "docker-compose"))
}
