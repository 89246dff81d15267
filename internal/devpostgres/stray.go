package devpostgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	strayFastStop = 15 * time.Second // a checkpoint on a slow disk
	strayHardStop = 5 * time.Second
)

// stopStray stops a server that outlived its owner and still runs on the data folder. The caller holds the lock of
// the cluster, so no owner is alive.
func stopStray(ctx context.Context, dataDir string, log *slog.Logger) error {
	pidFile := filepath.Join(dataDir, "postmaster.pid")
	content, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(content), "\n")
	pid, _ := strconv.Atoi(lines[0]) // 0 if it is no number
	if len(lines) < 2 || pid <= 1 {
		return nil // PostgreSQL itself tells best what is wrong with its file
	}
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return nil // PostgreSQL copes with the file of a dead process
	}
	if !isPostgres(ctx, pid, lines[1]) {
		// The number is taken by an unrelated process, or by a dead one nobody has waited for. PostgreSQL cannot tell
		// and would refuse to start.
		return os.Remove(pidFile)
	}
	log.Info("stopping a postgres that outlived its owner", "pid", pid, "dir", dataDir)
	if endProcess(ctx, pid, lines[1], syscall.SIGINT, strayFastStop) ||
		endProcess(ctx, pid, lines[1], syscall.SIGQUIT, strayHardStop) {
		return nil
	}
	return fmt.Errorf("a postgres (pid %d) that outlived its owner still runs on %s and does not stop: kill it", pid, dataDir)
}

// endProcess sends the signal and reports whether the process has ended in time.
func endProcess(ctx context.Context, pid int, dataDir string, sig syscall.Signal, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = syscall.Kill(pid, sig)
	for isPostgres(ctx, pid, dataDir) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return true
}

// isPostgres reports whether the process is a live server on the data folder. Process numbers are reused, so a
// number alone proves nothing.
func isPostgres(ctx context.Context, pid int, dataDir string) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil { // of a dead process nobody has waited for, this is empty
		args := strings.Split(string(raw), "\x00")
		return filepath.Base(args[0]) == "postgres" && slices.Contains(args, dataDir)
	}
	if _, err := os.Stat("/proc/self"); err == nil {
		return false
	}
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if ctx.Err() != nil {
		return true // cannot tell any more: assume the worst
	}
	line := string(out)
	return err == nil && strings.Contains(line, "postgres") && strings.Contains(line, " "+dataDir+" ")
}
