// What most exporters are: client_golang's gauges, served by promhttp. Reads the two families from a file in the
// text format and serves them: golang FILE PORT.
package main

import (
	"bufio"
	"log"
	"net/http"
	"os"
	"regexp"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	gauges := map[string]*prometheus.GaugeVec{}
	for _, name := range []string{"xt_balance_free", "xt_balance_frozen"} {
		gauges[name] = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: "An amount."}, []string{"account", "currency", "wallet"})
		registry.MustRegister(gauges[name])
	}
	sample := regexp.MustCompile(`^(\w+)\{account="(.*)",currency="(.*)",wallet="(.*)"\} (.*)$`)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if found := sample.FindStringSubmatch(lines.Text()); found != nil {
			value, err := strconv.ParseFloat(found[5], 64)
			if err != nil {
				log.Fatal(err)
			}
			gauges[found[1]].WithLabelValues(found[2], found[3], found[4]).Set(value)
		}
	}
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[2], nil))
}
