package devpostgres

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// substituteRoot survives a reboot, as a cluster that stands in for one below a home folder should.
const substituteRoot = "/var/tmp"

// account is the user PostgreSQL runs as. It refuses to run as root, so root has to switch to somebody else.
type account struct {
	name     string
	uid, gid uint32
	switched bool // false: the user we are
}

func clusterAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return account{name: name, uid: uint32(uid), gid: uint32(gid), switched: true}, nil
	}
	return account{}, fmt.Errorf("postgres cannot run as root, and this machine has neither a user postgres nor nobody: " +
		"run this as a plain user")
}

// keeping returns the owner of existing data if we are free to choose: the user PostgreSQL was first run as may not
// be the one it would be run as today.
func (a account) keeping(dataDir string) account {
	info, err := os.Stat(dataDir)
	if err != nil || !a.switched {
		return a
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 || st.Uid == a.uid {
		return a
	}
	return account{name: fmt.Sprintf("number %d", st.Uid), uid: st.Uid, gid: st.Gid, switched: true}
}

// attributes make a child process run as the account, in a process group of its own.
func (a account) attributes() *syscall.SysProcAttr {
	// Ctrl-C in the terminal is for the owner, who stops the server after those who use it.
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.switched {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// own hands a file tree that we made over to the account.
func (a account) own(root string) error {
	if !a.switched {
		return nil
	}
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.uid), int(a.gid))
	})
}

// obstacle names the first folder on the way to path that the account may not pass, or "" if there is none.
// Folders that do not exist yet are no obstacle.
func (a account) obstacle(path string) string {
	if !a.switched {
		return ""
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if parent := filepath.Dir(path); parent != path {
		if blocked := a.obstacle(parent); blocked != "" {
			return blocked
		}
	}
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() || a.mayPass(info) {
		return ""
	}
	return path
}

func (a account) mayPass(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && st.Uid == a.uid:
		return mode&0o100 != 0
	case ok && st.Gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// reachableDir returns dir if the account can get at files in it, else a folder that always stands in for it.
// Without the latter, root could not use a checkout in its own, closed home folder.
func reachableDir(dir string, a account, log *slog.Logger) (string, error) {
	blocked := a.obstacle(dir)
	if blocked == "" {
		return dir, nil
	}
	sub := substituteDir(dir)
	log.Info("postgres runs as another user, who cannot pass a folder on the way; using another place",
		"user", a.name, "closed", blocked, "wanted", dir, "used", sub)
	if err := os.Mkdir(sub, 0o711); err != nil && !os.IsExist(err) {
		return "", err
	}
	// Anybody may create files in /var/tmp: make sure that this one is ours and no trap.
	info, err := os.Lstat(sub)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || st.Uid != uint32(os.Geteuid()) || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s is not a folder that only this user can write to: remove it", sub)
	}
	return sub, nil
}

func substituteDir(dir string) string {
	return filepath.Join(substituteRoot, fmt.Sprintf("keymeter-%x", sha256.Sum256([]byte(dir)))[:len("keymeter-")+16])
}
