package devpostgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// startTimeout includes crash recovery.
	startTimeout  = time.Minute
	startAttempts = 5
)

// launch runs the server until it accepts connections. A free port can be taken by somebody else before the server
// gets to it, and processes of a killed server can still be about to end: both pass, so it tries again.
func (c *cluster) launch(ctx context.Context, o Options) (*Server, error) {
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		port := o.Port
		if port == 0 {
			if port, err = freePort(ctx); err != nil {
				return nil, err
			}
		}
		s := &Server{port: port, password: password, done: make(chan struct{})}
		if s.process, err = c.spawn(ctx, o, port); err != nil {
			return nil, err
		}
		err = c.awaitReady(ctx, s)
		if err == nil {
			c.log.Debug("postgres is ready", "port", port, "dir", c.dataDir(), "postgres", c.bin.version)
			return s, nil
		}
		s.process.signal(syscall.SIGQUIT)
		<-s.process.done
		if attempt == startAttempts || !passes(err, o.Port) {
			return nil, err
		}
		time.Sleep(time.Duration(attempt) * 50 * time.Millisecond)
	}
}

// passes reports whether the failure is likely to be gone at the next attempt.
func passes(err error, wantedPort int) bool {
	text := err.Error()
	return strings.Contains(text, "pre-existing shared memory block") ||
		wantedPort == 0 && strings.Contains(text, "could not create any TCP/IP sockets")
}

func (c *cluster) spawn(ctx context.Context, o Options, port int) (*process, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC | syscall.O_NOFOLLOW // as root: no way to aim it at other files
	logFile, err := os.OpenFile(c.logFile(), flags, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = logFile.Close() }()
	ctx = context.WithoutCancel(ctx) // the server outlives its start
	cmd := exec.CommandContext(ctx, c.bin.path("postgres"), c.args(o, port)...)
	cmd.Dir = "/"
	cmd.Env = childEnv()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = c.account.attributes()
	endWithParent(cmd.SysProcAttr)
	return startProcess(cmd)
}

// args of the server. -k with nothing: no Unix socket, whose path would be limited to about 100 bytes.
func (c *cluster) args(o Options, port int) []string {
	config := map[string]string{"listen_addresses": "127.0.0.1"}
	if !o.Durable {
		config["fsync"] = "off"
		config["synchronous_commit"] = "off"
		config["full_page_writes"] = "off"
	}
	maps.Copy(config, o.ExtraConfig)
	args := []string{"-D", c.dataDir(), "-k", "", "-p", strconv.Itoa(port)}
	for _, name := range slices.Sorted(maps.Keys(config)) {
		args = append(args, "-c", name+"="+config[name])
	}
	return args
}

// awaitReady polls until the server answers, or fails with the reason why it will not.
func (c *cluster) awaitReady(ctx context.Context, s *Server) error {
	for {
		err := c.probe(ctx, s)
		if err == nil {
			return nil
		}
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "28") { // not let in
			return fmt.Errorf("the password in %s does not fit the cluster next to it: %w", c.passwordFile(), err)
		}
		select {
		case <-s.process.done:
			return fmt.Errorf("postgres ended while starting; the end of %s says:\n%s", c.logFile(), c.logTail())
		case <-ctx.Done():
			return fmt.Errorf("postgres did not accept connections (log: %s): %w", c.logFile(), errors.Join(ctx.Err(), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// probe connects once and makes sure that our server answers: the port may have gone to somebody else's.
func (c *cluster) probe(ctx context.Context, s *Server) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if dir != c.dataDir() {
		return fmt.Errorf("port %d belongs to the server in %s", s.port, dir)
	}
	return nil
}

func (c *cluster) logTail() string {
	content, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	const enough = 2000
	return strings.TrimSpace(string(content[max(0, len(content)-enough):]))
}

// process is a child that is waited for.
type process struct {
	handle *os.Process
	done   chan struct{} // closed when it has ended
}

// startProcess starts the command from a thread that stays until the child has ended, because on Linux the end of
// that thread, not of the whole process, is what endWithParent goes by.
func startProcess(cmd *exec.Cmd) (*process, error) {
	started := make(chan error)
	p := &process{done: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.handle = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(p.done)
	}()
	return p, <-started
}

// signal to a process that has ended is no error: that is what the caller wants.
func (p *process) signal(sig os.Signal) { _ = p.handle.Signal(sig) }

func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
