// Conformance-sqs-go checks SQS through the AWS SDK for Go, version 2: its
// typed errors, paginators, digests and retries.
//
// Every check works on queues of its own and leaves the server running. One
// line per check, then one with the totals; the exit code is 0 only when every
// check passed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// checkTimeout bounds one check.
const checkTimeout = 30 * time.Second

// waitTimeout bounds one wait for something that must come.
const waitTimeout = 20 * time.Second

type check struct {
	name string
	// peer is the only one the check is for, or empty.
	peer string
	run  func(e *env) error
}

func main() {
	bootstrap := flag.String("bootstrap", "127.0.0.1:4566", "address of the broker, `HOST:PORT`")
	peer := flag.String("peer", "millstream", "what answers there: elasticmq or millstream")
	only := flag.String("only", "", "run only the checks whose name contains this")
	parallel := flag.Int("parallel", 4, "checks that run at the same time")
	flag.Parse()
	if *peer != "elasticmq" && *peer != "millstream" {
		fmt.Fprintln(os.Stderr, "--peer must be elasticmq or millstream")
		os.Exit(2)
	}
	var selected []check
	for _, group := range [][]check{queueChecks, messageChecks, fifoChecks, callingChecks} {
		for _, c := range group {
			if strings.Contains(c.name, *only) && (c.peer == "" || c.peer == *peer) {
				selected = append(selected, c)
			}
		}
	}
	if len(selected) == 0 {
		fmt.Fprintln(os.Stderr, "no check has a name containing", *only)
		os.Exit(2)
	}
	if runAll(*bootstrap, selected, max(1, *parallel)) > 0 {
		os.Exit(1)
	}
}

// runAll runs the checks and returns how many failed.
func runAll(address string, checks []check, parallel int) (failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, c := range checks {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := runOne(address, c)
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

// runOne runs a check; one that outlives its deadline is left behind and counted as failed.
func runOne(address string, c check) error {
	e := newEnv(address)
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v: %s", p, debug.Stack())
			}
		}()
		done <- c.run(e)
	}()
	select {
	case err := <-done:
		e.close()
		return err
	case <-time.After(checkTimeout):
		return errors.New("still running after its deadline")
	}
}
