// Conformance-go checks a broker of the Kafka protocol through Go clients
// (franz-go, its kadm and kmsg, and sarama) and, where a client would hide
// the answer, through exact requests on a connection of its own.
//
// Every check works on topics and groups of its own and leaves the server
// running. One line per check, then one with the totals; the exit code is 0
// only when every check passed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// checkTimeout bounds one check: every wait inside it ends by then.
const checkTimeout = 45 * time.Second

// env is what a check is given to work with.
type env struct {
	bootstrap string
	peer      string
	dataDir   string
}

// millstream tells whether the peer may differ from Apache Kafka where
// Millstream means to.
func (e *env) millstream() bool { return e.peer == "millstream" }

type check struct {
	name string
	run  func(ctx context.Context, e *env) error
}

func main() {
	bootstrap := flag.String("bootstrap", "127.0.0.1:9092", "address of the broker, `HOST:PORT`")
	peer := flag.String("peer", "millstream", "what answers there: kafka or millstream")
	only := flag.String("only", "", "run only the checks whose name contains this")
	data := flag.String("data", "", "directory of the public texts (default: looked for from here and from the program)")
	parallel := flag.Int("parallel", 4, "checks that run at the same time")
	list := flag.Bool("list", false, "print the names of the checks and end")
	flag.Parse()
	if *peer != "kafka" && *peer != "millstream" {
		fmt.Fprintln(os.Stderr, "--peer must be kafka or millstream")
		os.Exit(2)
	}

	var selected []check
	for _, group := range [][]check{
		franzChecks(), franzGroupChecks(), adminChecks(), adminGroupChecks(), saramaChecks(), saramaAdminChecks(),
		wireApiChecks(), wireProduceChecks(), wireSequenceChecks(), wireFetchChecks(), wireOffsetChecks(),
		wireGroupChecks(), wireCommitChecks(), wireTopicChecks(), wireConfigChecks(),
	} {
		for _, c := range group {
			if strings.Contains(c.name, *only) {
				selected = append(selected, c)
			}
		}
	}
	if *list {
		for _, c := range selected {
			fmt.Println(c.name)
		}
		return
	}
	if len(selected) == 0 {
		fmt.Fprintln(os.Stderr, "no check has a name containing", *only)
		os.Exit(2)
	}
	e := &env{bootstrap: *bootstrap, peer: *peer, dataDir: *data}
	if runAll(e, selected, max(1, *parallel)) > 0 {
		os.Exit(1)
	}
}

// runAll runs the checks and returns how many failed.
func runAll(e *env, checks []check, parallel int) (failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, c := range checks {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := runOne(e, c)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				fmt.Printf("FAIL %s: %s\n", c.name, strings.ReplaceAll(err.Error(), "\n", " | "))
				return
			}
			fmt.Println("ok", c.name)
		})
	}
	wg.Wait()
	fmt.Printf("%d passed, %d failed\n", len(checks)-failed, failed)
	return failed
}

// runOne runs a check; a check that outlives its deadline is left behind and
// counted as failed.
func runOne(e *env, c check) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v: %s", p, debug.Stack())
			}
		}()
		done <- c.run(ctx, e)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(checkTimeout + 5*time.Second):
		return errors.New("still running long after its deadline")
	}
}
