package devpostgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// cluster is the files of a server: home/data belongs to PostgreSQL, the rest of home to us.
type cluster struct {
	home    string
	bin     binaries
	account account
	log     *slog.Logger
}

func (c *cluster) dataDir() string      { return filepath.Join(c.home, "data") }
func (c *cluster) passwordFile() string { return filepath.Join(c.home, "password") }
func (c *cluster) logFile() string      { return filepath.Join(c.home, "postgres.log") }

// major is the PostgreSQL version that the data was made by; 0 if there is none yet.
func (c *cluster) major() int {
	content, err := os.ReadFile(filepath.Join(c.dataDir(), "PG_VERSION"))
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(content)))
	return major
}

// checkOwner fails if the data was made under another account, which PostgreSQL would refuse less clearly.
func (c *cluster) checkOwner() error {
	info, err := os.Stat(c.dataDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != c.account.uid {
		return fmt.Errorf("the database in %s belongs to the user with id %d, but postgres would run as id %d: "+
			"run this as the same user as before, or delete the folder", c.dataDir(), st.Uid, c.account.uid)
	}
	return nil
}

// password of the cluster; empty if it trusts local connections.
func (c *cluster) password() (string, error) {
	content, err := os.ReadFile(c.passwordFile())
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(content)), err
}

// create makes the data folder. It appears under its name only when complete, so an interrupted run is no problem.
func (c *cluster) create(ctx context.Context, durable bool, templateDir string) error {
	fresh := c.dataDir() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	template := ""
	if templateDir != "" && !durable {
		template = filepath.Join(templateDir, c.templateKey())
	}
	if template == "" || copyTree(template, fresh) != nil {
		if err := os.RemoveAll(fresh); err != nil {
			return err
		}
		if err := c.initialise(ctx, fresh, durable); err != nil {
			return err
		}
		if template != "" {
			c.keepTemplate(fresh, template)
		}
	}
	if err := c.account.own(fresh); err != nil {
		return err
	}
	return os.Rename(fresh, c.dataDir())
}

// initialise runs initdb on a folder that does not exist yet.
func (c *cluster) initialise(ctx context.Context, dir string, durable bool) error {
	args := []string{"-D", dir, "-U", superuser, "-E", "UTF8", "--locale=C"}
	if durable {
		if err := c.newPassword(); err != nil {
			return err
		}
		args = append(args, "-A", "scram-sha-256", "--pwfile="+c.passwordFile())
	} else {
		args = append(args, "-A", "trust", "-N")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := c.account.own(dir); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.bin.path("initdb"), args...)
	cmd.Dir = "/" // the account may not be able to enter the current one
	cmd.Env = childEnv()
	cmd.SysProcAttr = c.account.attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd.Path, err, bytes.TrimSpace(out))
	}
	c.log.Debug("created a database cluster", "dir", c.dataDir(), "postgres", c.bin.version)
	return nil
}

func (c *cluster) newPassword() error {
	if err := os.Remove(c.passwordFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(c.passwordFile(), []byte(rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	return c.account.own(c.passwordFile()) // initdb reads it
}

// templateKey changes with everything that a fresh cluster depends on.
func (c *cluster) templateKey() string {
	sum := sha256.Sum256([]byte(c.bin.dir + "\n" + c.bin.version + "\n" + superuser))
	return fmt.Sprintf("pristine-%d-%x", c.bin.major, sum[:8])
}

// keepTemplate stores a copy for the next time. A failure only costs that time.
func (c *cluster) keepTemplate(fresh, template string) {
	tmp := template + ".tmp" + rand.Text()
	err := os.MkdirAll(filepath.Dir(template), 0o755)
	if err == nil {
		err = copyTree(fresh, tmp)
	}
	if err == nil {
		err = os.Rename(tmp, template)
	}
	if err != nil {
		_ = os.RemoveAll(tmp)
		c.log.Debug("no copy of the new cluster was kept", "dir", template, "error", err)
	}
}

// childEnv is our environment without what would change the behaviour of PostgreSQL.
func childEnv() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG")
	})
	return append(env, "LC_ALL=C")
}

// copyTree copies folders and regular files, which is all a fresh cluster consists of.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch target := filepath.Join(to, rel); {
		case d.IsDir():
			return os.Mkdir(target, 0o700)
		case d.Type().IsRegular():
			return copyFile(path, target)
		default:
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
