package devpostgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockDir makes this process the owner of dir, creating it if missing, until the returned file is unlocked or the
// process ends, even by SIGKILL.
func lockDir(dir string) (*os.File, error) {
	// Others must be able to pass through: as root, the server runs as another user. The data itself is closed to them.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create the folder of the database: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("the database in %s was made by another user: run this as that user, or delete it: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the folder of the database: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		owner, _ := os.ReadFile(f.Name())
		_ = f.Close()
		return nil, fmt.Errorf("the database in %s is in use by another process (pid %s): stop that one first, "+
			"or use another folder", dir, strings.TrimSpace(string(owner)))
	}
	if err == nil {
		err = errors.Join(f.Truncate(0), writeString(f, fmt.Sprintln(os.Getpid())))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// lockFile waits for the lock on a file that guards a short piece of work.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unlock gives a lock up. To close the file would not do: a child that is about to begin has it open for a moment.
func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

func writeString(f *os.File, s string) error {
	_, err := f.WriteString(s)
	return err
}
