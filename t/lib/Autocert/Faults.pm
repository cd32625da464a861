# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Many faults at once: each has a name of its own, one httpd meets them all.
#
#   my @faults = (
#       { is => 'F08', what => 'orderNotReady at first', rules => [{ class => 'finalize', to => 2, ... }],
#         orders => 1, most => { finalize => 3 } },
#       { is => 'F40', what => '...', rules => [...], fails => qr/caa/ },
#   );
#   my $server = faulty_server($pebble, $proxy, \@faults);
#   $server->start;
#   check_faults($server, $proxy, @faults);
#   heal_faults($server, $proxy, @faults);
#
# Of a fault: is (its number in the list of faults), what, rules (as for FaultProxy->rule(), the name is put
# in), name (made of number and place if left out); and what is expected:
#   fails    the name is not obtained, and the log says this
#   stuck    the order does not end for now, and the log says this
#            (else it is obtained, and nothing was a failure)
#   orders   how many orders were placed for it (default 1)
#   most     {class => n}: so many requests at most, which were answered or not
#   vhost    more lines of its virtual host
package Autocert::Faults;

use strict;
use warnings;

use Exporter 'import';
use Test::More ();

use Autocert::Client qw(handshake);
use Autocert::Events qw(events ledger change_ledger);
use Autocert::Server;
use Autocert::Util qw(wait_until slurp);

our @EXPORT_OK = qw(faulty_server check_faults heal_faults vhosts_of);

use constant {
    OUTCOME_SECONDS => 90,
    FIRST_WAIT      => 60,      # after the first failure of a name
    HEAL_SECONDS    => 60,
};

sub vhosts_of
{
    my (@faults) = @_;
    return join '', map { <<"CONF" } @faults;
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $_->{name}
@{[$_->{vhost} // '']}
</VirtualHost>
CONF
}

sub faulty_server
{
    my ($pebble, $proxy, $faults, %arg) = @_;

    my $place = 0;
    for my $fault (@$faults) {
        $fault->{name} //= lc($fault->{is}) . '-' . ++$place . '.example.test';
        $proxy->rule(%$_, name => $fault->{name}) for @{ $fault->{rules} };
    }
    my $config = delete $arg{config} // '';
    return Autocert::Server->with_ca($pebble, loglevel => 'notice autocert:debug', vars => $proxy->vars,
        %arg, config => $config . vhosts_of(@$faults));
}

sub is_stored
{
    my ($server, $fault) = @_;
    return -s $server->cache_file($fault->{name});
}

sub failure_of
{
    my ($server, $name, $mark) = @_;
    my ($found) = grep { ($_->{name} // '') eq $name } events($server, 'AC0120', $mark);
    return $found;
}

# A connection that another name's fault ended may have cost this one a request before.
sub stuck_of
{
    my ($server, $fault) = @_;
    my ($found) = grep { ($_->{name} // '') eq $fault->{name} && $_->{text} =~ $fault->{stuck} }
        events($server, 'AC0122');
    return $found;
}

sub has_outcome
{
    my ($server, $fault) = @_;
    return 1 if is_stored($server, $fault);
    return $fault->{stuck} ? stuck_of($server, $fault) : failure_of($server, $fault->{name});
}

sub check_faults
{
    my ($server, $proxy, @faults) = @_;

    my @open = @faults;
    wait_until(OUTCOME_SECONDS, sub {
        @open = grep { !has_outcome($server, $_) } @open;
        return !@open;
    }, 'an outcome of each fault');
    # Now, not after the next try.
    my %requests;
    $requests{ $_->{name} // '' }{ $_->{class} }++ for $proxy->requests;
    for my $fault (@faults) {
        my $say = "$fault->{is}: $fault->{what}";
        my $failed = failure_of($server, $fault->{name});
        if ($fault->{fails}) {
            Test::More::like($failed && $failed->{text},
                qr/^not obtained from .*$fault->{fails}.*; next try (?:\d{4}-\d\d-\d\d )?\d\d:\d\d/, "$say: the log says so");
            Test::More::ok(!is_stored($server, $fault), "$say: nothing is stored");
            my $state = ledger($server, $fault->{name});
            Test::More::cmp_ok($failed ? $state->{next} - $failed->{time} : 0, '>', FIRST_WAIT - 2,
                "$say: it waits");
        }
        elsif ($fault->{stuck}) {
            my $stuck = stuck_of($server, $fault);
            Test::More::like($stuck && $stuck->{text}, qr/$fault->{stuck}.*; the order goes on in \d+ s/,
                "$say: the log says so, and when it goes on");
        }
        else {
            Test::More::ok(is_stored($server, $fault), "$say: obtained")
                or Test::More::diag($failed ? $failed->{text} : 'no outcome');
            Test::More::ok(!$failed, "$say: it is no failure");
        }
        my $orders = $fault->{orders} // 1;
        Test::More::is(scalar($proxy->orders(name => $fault->{name})), $orders, "$say: $orders orders");
        for my $class (sort keys %{ $fault->{most} // {} }) {
            my $most = $fault->{most}{$class};
            Test::More::cmp_ok($requests{ $fault->{name} }{$class} // 0, '<=', $most,
                "$say: $most requests to $class at most");
        }
    }
    return;
}

# The faults are gone and the next try has come: all names are obtained.
sub heal_faults
{
    my ($server, $proxy, @faults) = @_;

    my @failed = grep { $_->{fails} || $_->{stuck} } @faults;
    $proxy->clear;
    $server->stop;
    change_ledger($server, $_->{name}, next => time - 1) for grep { $_->{fails} } @failed;
    my $start = $server->start;
    Test::More::ok($start, 'httpd starts when the faults are gone') or return;
    wait_until(HEAL_SECONDS, sub { !grep { !is_stored($server, $_) } @failed });
    Test::More::ok(is_stored($server, $_), "$_->{is}: $_->{what}: obtained once it is gone") for @failed;
    return;
}

1;
