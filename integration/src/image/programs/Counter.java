import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.concurrent.atomic.AtomicLong;

/** Answers the Redis command INCR, whatever the key: each five lines are one request. */
public class Counter {
    private static final AtomicLong COUNTER = new AtomicLong();

    public static void main(String[] arguments) throws IOException {
        try (ServerSocket listener = new ServerSocket(6379)) {
            while (true) {
                Socket connection = listener.accept();
                new Thread(() -> serve(connection)).start();
            }
        }
    }

    private static void serve(Socket connection) {
        try (connection) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(connection.getInputStream()));
            OutputStream out = connection.getOutputStream();
            for (int count = 1; lines.readLine() != null; count++) {
                if (count % 5 == 0) {
                    out.write((":" + COUNTER.incrementAndGet() + "\r\n").getBytes());
                }
            }
        } catch (IOException error) {
            System.err.println(error);
        }
    }
}
