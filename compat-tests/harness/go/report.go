// The lines that the driver reads (harness/report.py), and the control line to it.

package harness

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

const limit = 60 * time.Second

// Skipped is what a check returns that does not apply to this library; it says why.
type Skipped string

func (s Skipped) Error() string { return string(s) }

type report struct {
	failed int
}

// check runs one check. A failure is reported and does not stop the checks that follow.
func (r *report) check(name string, body func() error) {
	began := time.Now()
	err := body()
	var skipped Skipped
	if errors.As(err, &skipped) {
		fmt.Printf("check %s skipped %s\n", name, skipped)
		return
	}
	if err != nil {
		r.failed++
		fmt.Printf("check %s failed %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	fmt.Printf("check %s ok %.1f s\n", name, time.Since(began).Seconds())
}

// control sends a word to the driver (harness/control.py) and waits until the broker is ready again.
func control(word string) error {
	connection, err := net.Dial("tcp", os.Getenv("OTTLA_CONTROL"))
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := fmt.Fprintln(connection, word); err != nil {
		return err
	}
	answer, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(answer, "ready") {
		return fmt.Errorf("%s: %s", word, answer)
	}
	fmt.Printf("# %s: %s s\n", word, strings.TrimSpace(answer))
	return nil
}
